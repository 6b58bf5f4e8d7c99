//! `pgdb registry export|import`.

use super::Context;
use anyhow::Context as _;
use clap::Subcommand;
use pgdb_api::admin::ImportReport;
use pgdb_core::registry::Registry as Document;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The registry format of the original daemon, passwords included.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Registry {
    /// Write everything in the documented format.
    Export {
        /// The file to write, readable by you alone; standard output when left out.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Take over the databases of a registry whose data the daemon's machine still holds.
    Import {
        /// A registry.
        file: PathBuf,
    },
}

impl Registry {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::Export { output } => {
                let document: Document = cx.client.get("/v1/registry").await?;
                let Some(output) = output else { return cx.printer.document(&document) };
                let open =
                    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&output);
                let mut file = open.with_context(|| format!("could not write {}", output.display()))?;
                writeln!(file, "{}", serde_json::to_string_pretty(&document)?)?;
                cx.printer.note(format!("{} databases in {}", document.items.len(), output.display()));
                Ok(())
            }
            Self::Import { file } => {
                let text =
                    std::fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
                let document: Document =
                    serde_json::from_str(&text).with_context(|| format!("{} is not a registry", file.display()))?;
                let report: ImportReport = cx.client.post("/v1/registry/import", &document).await?;
                cx.printer.either(&report, |printer| {
                    for name in &report.imported {
                        printer.line(format!("imported: {name}"));
                    }
                    for skipped in &report.skipped {
                        printer.line(format!("skipped: {} ({})", skipped.name, skipped.reason));
                    }
                })
            }
        }
    }
}
