//! `pgdb dump NAME`.

use super::Context;
use crate::error::Usage;
use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Write a dump of a database, in pg_dump's custom format.
#[derive(Debug, Args)]
#[command(
    after_help = "It is made on the server's side by the server's own pg_dump; nothing needs to be installed here.\n\
                        Read it back with `pgdb restore` or with pg_restore."
)]
pub(crate) struct Dump {
    /// Its name.
    name: String,
    /// The file to write; standard output when left out.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Dump {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = cx.path(&self.name, "/dump")?;
        let Some(output) = self.output else {
            if std::io::stdout().is_terminal() {
                return Err(Usage("a dump is not for a terminal; give --output FILE".to_owned()).into());
            }
            copy(cx, &path, &mut std::io::stdout()).await?;
            return Ok(());
        };
        if std::fs::symlink_metadata(&output).is_ok_and(|found| !found.is_file()) {
            // A device, a pipe or a link is written to; a file of ours must not take its place.
            let open = std::fs::OpenOptions::new().write(true).open(&output);
            copy(cx, &path, &mut open.with_context(|| format!("could not write {}", output.display()))?).await?;
            return Ok(());
        }
        // Written aside and renamed: a broken dump never has the name of a whole one.
        let mut making = output.clone().into_os_string();
        making.push(format!(".{}.making", std::process::id()));
        let making = PathBuf::from(making);
        let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making);
        let mut file = open.with_context(|| format!("could not write {}", making.display()))?;
        let copied = tokio::select! {
            copied = copy(cx, &path, &mut file) => copied,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        let copied = copied.and_then(|bytes| {
            file.sync_all()?;
            std::fs::rename(&making, &output).with_context(|| format!("could not write {}", output.display()))?;
            Ok(bytes)
        });
        if copied.is_err() {
            // It is of no use to anybody.
            let _ = std::fs::remove_file(&making);
        }
        let bytes = copied?;
        let written = serde_json::json!({ "file": output, "bytes": bytes });
        cx.printer.either(&written, |printer| printer.note(format!("{} bytes in {}", bytes, output.display())))
    }
}

async fn copy(cx: &Context<'_>, path: &str, to: &mut impl Write) -> anyhow::Result<u64> {
    let mut chunks = cx.client.stream(path, &()).await?.bytes_stream();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.context("the dump broke off; the daemon's log says why")?;
        bytes += chunk.len() as u64;
        to.write_all(&chunk)?;
    }
    to.flush()?;
    Ok(bytes)
}
