//! A server's log: files that its logger rotates, and what it says before the logger runs.

use crate::conf::LOG_PREFIX;
use crate::error::RuntimeError;
use crate::process::files::{NO_FOLLOW, absent, blocking, names, read_text, remove_file};
use crate::process::layout::Place;
use crate::reasons::{SEARCHED, around_the_reason};
use crate::spec::LogOptions;
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

/// How many files are kept.
const FILES_KEPT: usize = 10;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);
const CHUNK_BYTES: u64 = 64 * 1024;

/// Where the log ended at some moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    file: String,
    len: u64,
}

/// Names of the log's files, oldest first.
fn log_names(dir: &Path) -> Result<Vec<String>, RuntimeError> {
    let mut names = names(dir)?;
    names.retain(|name| name.starts_with(LOG_PREFIX) && name.ends_with(".log"));
    Ok(names)
}

/// Where the log ends now.
pub(crate) fn position(place: &Place) -> Result<Position, RuntimeError> {
    let Some(file) = log_names(&place.log)?.pop() else { return Ok(Position::default()) };
    let len = std::fs::metadata(place.log.join(&file)).map_or(0, |meta| meta.len());
    Ok(Position { file, len })
}

/// All lines since a start: its own output, then what its logger wrote.
pub(crate) fn since(place: &Place, position: &Position) -> Result<Vec<String>, RuntimeError> {
    let mut lines = start_lines(place)?;
    for name in log_names(&place.log)? {
        if name < position.file {
            continue;
        }
        let from = if name == position.file { position.len } else { 0 };
        let (text, _) = read_from(&place.log.join(&name), from)?;
        lines.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
    }
    Ok(lines)
}

/// The last lines that say why the server failed: around its last fatal message, else simply the last.
pub(crate) fn last_lines(place: &Place) -> Result<Vec<String>, RuntimeError> {
    let mut lines = start_lines(place)?;
    let tail = tail(&place.log, &log_names(&place.log)?, SEARCHED)?;
    lines.extend(String::from_utf8_lossy(&tail.text).lines().map(str::to_owned));
    Ok(around_the_reason(lines))
}

/// What the server said before its logger ran, without the notice that the logger takes over.
fn start_lines(place: &Place) -> Result<Vec<String>, RuntimeError> {
    let text = read_text(&place.start_log)?.unwrap_or_default();
    let takes_over = |line: &str| {
        line.contains("redirecting log output to logging collector process")
            || line.contains("Future log output will appear in directory")
    };
    Ok(text.lines().filter(|line| !takes_over(line)).map(str::to_owned).collect())
}

/// Removes all but the newest files.
pub(crate) fn prune(place: &Place) -> Result<(), RuntimeError> {
    let names = log_names(&place.log)?;
    for name in names.iter().take(names.len().saturating_sub(FILES_KEPT)) {
        remove_file(&place.log.join(name))?;
    }
    Ok(())
}

/// The end of a log, and where it ends.
#[derive(Debug, Default)]
struct Tail {
    text: Vec<u8>,
    end: Position,
}

/// The last lines over as many files as needed.
fn tail(dir: &Path, names: &[String], lines: usize) -> Result<Tail, RuntimeError> {
    let mut tail = Tail::default();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut left = lines;
    for (age, name) in names.iter().rev().enumerate() {
        let path = dir.join(name);
        let Some(mut file) = open(&path)? else { continue };
        let len = file.seek(SeekFrom::End(0)).map_err(RuntimeError::io("read", &path))?;
        if age == 0 {
            tail.end = Position { file: name.clone(), len };
        }
        if left == 0 {
            break;
        }
        let (part, found) = last_lines_of(&mut file, len, left).map_err(RuntimeError::io("read", &path))?;
        left -= found;
        parts.push(part);
    }
    parts.reverse();
    tail.text = parts.concat();
    Ok(tail)
}

/// The last lines of one file, read from its end, and how many they are.
fn last_lines_of(file: &mut (impl Read + Seek), len: u64, lines: usize) -> io::Result<(Vec<u8>, usize)> {
    let mut text: Vec<u8> = Vec::new();
    let mut start = len;
    loop {
        // A line break at the very end closes the last line and begins none.
        let body = text.strip_suffix(b"\n").unwrap_or(&text);
        let breaks: Vec<usize> =
            body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        if breaks.len() >= lines {
            let from = breaks[breaks.len() - lines] + 1;
            return Ok((text.split_off(from), lines));
        }
        if start == 0 {
            let found = if body.is_empty() && text.is_empty() { 0 } else { breaks.len() + 1 };
            return Ok((text, found));
        }
        let from = start.saturating_sub(CHUNK_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = Vec::new();
        file.by_ref().take(start - from).read_to_end(&mut chunk)?;
        chunk.append(&mut text);
        text = chunk;
        start = from;
    }
}

/// The log as a stream.
pub(crate) async fn stream(place: &Place, options: LogOptions) -> Result<crate::ByteStream, RuntimeError> {
    let here = place.clone();
    let tail = blocking(move || {
        // A start that failed before the logger ran is newer than what the logger wrote.
        let mut lines = start_lines(&here)?;
        lines.drain(..lines.len().saturating_sub(options.lines));
        let mut tail = tail(&here.log, &log_names(&here.log)?, options.lines - lines.len())?;
        tail.text.extend(lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()));
        Ok(tail)
    })
    .await?;
    let (send, mut receive) = mpsc::channel::<io::Result<Bytes>>(16);
    let dir = place.log.clone();
    tokio::spawn(async move {
        if !tail.text.is_empty() && send.send(Ok(tail.text.into())).await.is_err() {
            return;
        }
        if options.follow {
            follow(dir, tail.end, send).await;
        }
    });
    let stream = futures::stream::poll_fn(move |context| receive.poll_recv(context));
    Ok(Box::new(StreamReader::new(stream)))
}

/// Sends what is appended, over rotations, until nobody listens or the log is removed.
async fn follow(dir: PathBuf, mut position: Position, send: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let (at, from) = (dir.clone(), position.clone());
        let news = blocking(move || {
            let gone = !crate::process::files::exists(&at)?;
            Ok((appended(&at, from)?, gone))
        })
        .await;
        let ((chunks, next), gone) = match news {
            Ok(news) => news,
            Err(error) => {
                send.send(Err(io::Error::other(error))).await.ok();
                return;
            }
        };
        position = next;
        let some = !chunks.is_empty();
        for chunk in chunks {
            if send.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        if gone {
            return;
        }
        if !some {
            tokio::select! {
                () = send.closed() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// What was written after a position, and the new one. A file that ends is read to its end before the next.
fn appended(dir: &Path, mut position: Position) -> Result<(Vec<Bytes>, Position), RuntimeError> {
    let mut chunks = Vec::new();
    for name in log_names(dir)? {
        if name < position.file {
            continue;
        }
        if name != position.file {
            position = Position { file: name.clone(), len: 0 };
        }
        let (text, len) = read_from(&dir.join(&name), position.len)?;
        position.len = len;
        if !text.is_empty() {
            chunks.push(text.into());
        }
    }
    Ok((chunks, position))
}

/// At most a few chunks from an offset on, and the offset behind them.
fn read_from(path: &Path, from: u64) -> Result<(Vec<u8>, u64), RuntimeError> {
    const MOST: u64 = 16 * CHUNK_BYTES;
    let Some(mut file) = open(path)? else { return Ok((Vec::new(), from)) };
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(MOST).read_to_end(&mut text))
        .map_err(RuntimeError::io("read", path))?;
    let len = from + text.len() as u64;
    Ok((text, len))
}

fn open(path: &Path) -> Result<Option<File>, RuntimeError> {
    match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(RuntimeError::io("open", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn last(text: &str, lines: usize) -> (String, usize) {
        let (bytes, found) = last_lines_of(&mut Cursor::new(text), text.len() as u64, lines).expect("read");
        (String::from_utf8(bytes).expect("text"), found)
    }

    #[test]
    fn the_last_lines_of_a_file() {
        assert_eq!(last("a\nb\nc\n", 2), ("b\nc\n".to_owned(), 2));
        assert_eq!(last("a\nb\nc", 2), ("b\nc".to_owned(), 2));
        assert_eq!(last("a\nb\n", 9), ("a\nb\n".to_owned(), 2));
        assert_eq!(last("", 3), (String::new(), 0));
        let long = "x".repeat(100_000);
        let text = format!("{long}\n{long}\nend\n");
        assert_eq!(last(&text, 2), (format!("{long}\nend\n"), 2));
    }

    #[test]
    fn following_goes_over_a_rotation_and_reads_the_old_file_to_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("postgresql-1.log", "one\n");
        write("start.log", "not me\n");
        let names = log_names(dir.path()).expect("listed");
        let tail = tail(dir.path(), &names, 10).expect("read");
        assert_eq!(tail.text, b"one\n");
        write("postgresql-1.log", "one\ntwo\n");
        write("postgresql-2.log", "three\n");
        let (chunks, position) = appended(dir.path(), tail.end).expect("read");
        assert_eq!(chunks.concat(), b"two\nthree\n");
        assert!(appended(dir.path(), position).expect("read").0.is_empty());
    }
}
