//! A server's log: files that its own logging collector rotates, read as one stream.

use crate::RuntimeError;
use crate::spec::LogOptions;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Log files kept.
const KEPT: usize = 10;
/// Between two looks for more, while following.
const FOLLOW: Duration = Duration::from_millis(200);
/// At most this much of a file's end is read for its last lines.
const TAIL_BYTES: u64 = 8 * 1024 * 1024;
/// Lines that say why a server failed.
const REASON_LINES: usize = 20;

/// The log files, oldest first. Their names hold the time.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("postgresql-")))
        .collect();
    files.sort();
    files
}

/// Removes all but the newest files.
pub(super) fn prune(folder: &Path) -> Result<(), RuntimeError> {
    let files = files(folder);
    for old in files.iter().take(files.len().saturating_sub(KEPT)) {
        super::server::gone_is_fine(fs::remove_file(old)).map_err(RuntimeError::io("remove", old))?;
    }
    Ok(())
}

/// The lines that tell why a server ended: of its start, and of the newest log file.
pub(super) fn last_lines(folder: &Path) -> Vec<String> {
    let mut lines = start_lines(folder, REASON_LINES / 2);
    if let Some(newest) = files(folder).last() {
        lines.extend(tail(newest, REASON_LINES / 2));
    }
    lines
}

/// What the server said at its last start before its own log was open; nothing when that went well.
fn start_lines(folder: &Path, lines: usize) -> Vec<String> {
    let mut lines = tail(&folder.join("start.log"), lines);
    lines.retain(|line| !line.contains("redirecting log output") && !line.contains("Future log output"));
    lines
}

fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// A log as it is read; dropping it ends the task that feeds it.
struct LogStream {
    bytes: DuplexStream,
    _reader_is_there: DropGuard,
}

impl AsyncRead for LogStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buffer)
    }
}

/// The last lines, and what follows if that is wanted, until the reader goes away.
pub(super) fn stream(folder: PathBuf, options: LogOptions) -> impl AsyncRead + Send + Unpin + 'static {
    let (writer, bytes) = tokio::io::duplex(64 * 1024);
    let gone = CancellationToken::new();
    let stream = LogStream { bytes, _reader_is_there: gone.clone().drop_guard() };
    tokio::spawn(async move {
        tokio::select! {
            () = gone.cancelled() => {}
            fed = feed(&folder, options, writer) => {
                if let Err(error) = fed {
                    tracing::debug!(%error, folder = %folder.display(), "a log could not be read to its end");
                }
            }
        }
    });
    stream
}

async fn feed(folder: &Path, options: LogOptions, mut writer: DuplexStream) -> std::io::Result<()> {
    // A server that could not open its log has said why there; that is newer than the log.
    let mut lines = start_lines(folder, options.lines);
    let mut position = None;
    for file in files(folder).into_iter().rev() {
        let length = fs::metadata(&file)?.len();
        position.get_or_insert((file.clone(), length));
        let wanted = options.lines.saturating_sub(lines.len());
        if wanted == 0 {
            break;
        }
        let mut older = tail(&file, wanted);
        older.append(&mut lines);
        lines = older;
    }
    for line in lines {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await?;
    }
    while options.follow {
        tokio::time::sleep(FOLLOW).await;
        for file in files(folder) {
            let start = match &position {
                Some((current, _)) if file < *current => continue,
                Some((current, offset)) if file == *current => *offset,
                _ => 0,
            };
            let mut reader = tokio::fs::File::open(&file).await?;
            tokio::io::AsyncSeekExt::seek(&mut reader, SeekFrom::Start(start)).await?;
            let copied = tokio::io::copy(&mut reader, &mut writer).await?;
            position = Some((file, start + copied));
        }
    }
    writer.shutdown().await
}
