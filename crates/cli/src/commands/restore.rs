//! `pgdb restore NAME FILE`.

use super::{Context, psql};
use anyhow::Context as _;
use clap::Args;
use pgdb_api::instances::StatusItem;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// How pg_dump's custom format begins.
const MAGIC: &[u8; 5] = b"PGDMP";

/// Replace a database's content by a dump's.
#[derive(Debug, Args)]
#[command(
    after_help = "A dump in pg_dump's custom format is read into a fresh database, which then takes the place of the \
                        present one;\nuntil it has been read without an error nothing changes.\n\n\
                        A plain SQL file is run by psql on this machine, in one transaction, in the present database: such a \
                        file\ncan make psql run programs, so run only what you trust."
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
        cx.confirm(&format!("Run this SQL file in '{}'?", self.name))?;
        let item = cx.revealed(&self.name).await?;
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
        cx.printer.either(&done, |printer| printer.line(format!("restored: {}", item.name)))
    }
}
