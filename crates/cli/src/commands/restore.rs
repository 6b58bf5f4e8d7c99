//! `pgdb restore NAME FILE`.

use super::{Context, psql};
use anyhow::Context as _;
use clap::Args;
use pgdb_api::instances::StatusItem;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// How pg_dump's custom format begins.
const MAGIC: &[u8; 5] = b"PGDMP";

/// A line that a plain dump begins with, and the one at its end.
const PLAIN: [(&[u8], &[u8]); 2] = [
    (b"-- PostgreSQL database dump", b"-- PostgreSQL database dump complete"),
    (b"-- PostgreSQL database cluster dump", b"-- PostgreSQL database cluster dump complete"),
];

/// Longer lines are read in parts: there is no end to what a row can hold.
const LINE: u64 = 64 * 1024;

/// Replace a database's content by a dump's.
#[derive(Debug, Args)]
#[command(
    after_help = "A dump in pg_dump's custom format is read into a fresh database, which then takes the place of the \
                  present one; until it has been read without an error nothing changes.\n\n\
                  A plain SQL file is run by psql on this machine, in one transaction, in the present database, beside what \
                  is there: such a file can make psql run programs, so run only what you trust. One that is empty is \
                  refused, and so is a plain dump of pg_dump's whose last line is missing."
)]
pub(crate) struct Restore {
    /// Its name.
    name: String,
    /// The dump.
    file: PathBuf,
}

impl Restore {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let explain = || format!("could not read {}", self.file.display());
        let mut file = File::open(&self.file).with_context(explain)?;
        let mut begin = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut begin).with_context(explain)?;
        file.seek(SeekFrom::Start(0)).with_context(explain)?;
        if begin == MAGIC {
            cx.confirm(&format!("Replace everything in '{}' by this dump?", self.name))?;
            let stream = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file));
            let path = cx.path(&self.name, "/restore")?;
            let item: StatusItem = cx.client.post_stream(&path, reqwest::Body::wrap_stream(stream)).await?;
            return cx.printer.either(&item, |printer| printer.line(format!("restored: {}", item.name)));
        }
        let lacks = lacks(&file).with_context(explain)?;
        file.seek(SeekFrom::Start(0)).with_context(explain)?;
        if let Some(lacks) = lacks {
            anyhow::bail!("{} {lacks}; nothing was changed", self.file.display());
        }
        cx.confirm(&format!("Run this SQL file in '{}'?", self.name))?;
        let item = cx.reachable(&self.name).await?;
        let mut command = psql::psql(&psql::Connection::of(&item))?;
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-"]).stdin(file);
        // What psql prints is no data of ours.
        command.stdout(std::io::stderr());
        let status = command.status().context("could not run psql")?;
        anyhow::ensure!(
            status.success(),
            "psql did not accept the file; nothing of it was kept, unless the file itself has a COMMIT before that line"
        );
        let done = serde_json::json!({ "name": item.name, "restored": true });
        cx.printer.either(&done, |printer| printer.line(format!("the SQL file was run in '{}'", item.name)))
    }
}

/// Why a plain file would restore nothing, or not all: psql takes both for a success, even a COPY that is cut short.
fn lacks(file: &File) -> io::Result<Option<&'static str>> {
    let mut lines = BufReader::new(file);
    let (mut line, mut empty, mut expected) = (Vec::new(), true, None);
    loop {
        line.clear();
        if (&mut lines).take(LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let line = line.trim_ascii();
        if let Some(expected) = expected {
            if line == expected {
                return Ok(None);
            }
        } else if let Some((_, last)) = PLAIN.iter().find(|(first, _)| line == *first) {
            expected = Some(*last);
        } else if !line.is_empty() && line != b"--" {
            // No dump of pg_dump's, which begins with that line.
            return Ok(None);
        }
        empty &= line.is_empty();
    }
    let cut = "is a dump that was cut short: the line that pg_dump ends it with is missing";
    Ok(if empty { Some("is empty") } else { expected.map(|_| cut) })
}
