//! `pgdb migrate baseline`.

use super::connection::ConnectionArgs;
use super::import::ImportArgs;
use super::lint::counted;
use super::source::SourceArgs;
use super::{Context, VERSION};
use clap::Args;
use pgdb_core::migration::ledger::Outcome;
use pgdb_core::migration::plan::{Policy, State, plan};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::run::with_lock;
use pgdb_pg::migrate::session::Session;

/// Take files as run without running them, for a database that has its schema already.
#[derive(Debug, Args)]
pub(crate) struct Baseline {
    /// The last file that counts, SCHEMA/NAME or its path; all files when left out.
    #[arg(long, value_name = "KEY", conflicts_with = "from")]
    to: Option<String>,
    #[command(flatten)]
    import: ImportArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
}

impl Baseline {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let files = self.source.read(cx)?;
        let to = self.to.as_ref().map(|named| self.source.known_key(&files, named)).transpose()?;
        let session = Session::open(&self.connection.login(cx).await?).await?;
        if let Some(tool) = self.import.from {
            let imported = self.import.run(cx, tool, &session, &files).await;
            session.close().await;
            return imported;
        }
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        let plan = plan(&files, &rows, Policy::default());
        let meant: Vec<_> = plan
            .items
            .iter()
            .filter(|item| item.state == State::Pending || item.state == State::Due)
            .map(|item| item.file)
            .filter(|file| to.as_ref().is_none_or(|to| file.key.as_str().as_bytes() <= to.as_bytes()))
            .collect();
        if !meant.is_empty() {
            let files = counted(meant.len(), "file");
            cx.confirm(&format!("Take {files} as run without running them?"))?;
            with_lock(&session, async || {
                ledger::ensure(session.client()).await?;
                for file in &meant {
                    let key = file.key.as_str();
                    ledger::note(session.client(), key, Some(file.checksum), Outcome::Baseline, VERSION).await?;
                }
                Ok(())
            })
            .await?;
        }
        session.close().await;
        let keys: Vec<&str> = meant.iter().map(|file| file.key.as_str()).collect();
        cx.printer.either(&keys, |printer| {
            for key in &keys {
                printer.line(format!("{key}  baseline"));
            }
            if keys.is_empty() {
                match &to {
                    Some(to) => printer.line(format!("Every file up to {to} was run already.")),
                    None => printer.line("Every file was run already."),
                }
            }
        })
    }
}
