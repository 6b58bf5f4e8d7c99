//! `pgdb migrate repair`.

use super::connection::ConnectionArgs;
use super::source::SourceArgs;
use super::{Context, VERSION};
use crate::error::Usage;
use clap::Args;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::Outcome;
use pgdb_core::migration::ledger::Progress;
use pgdb_core::migration::plan::{Item, Plan, Policy, Refusal, State, plan};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::run::with_lock;
use pgdb_pg::migrate::session::Session;
use pgdb_pg::migrate::steps::progress_of;
use serde::Serialize;

/// Take changed files as they are now, and forget those that are gone.
#[derive(Debug, Args)]
#[command(after_help = "Nothing of the files is run: only the ledger changes, by further rows.\n\n\
                  Of a file of which only a part is done that part is taken as it is now; the next run goes on behind it.")]
pub(crate) struct Repair {
    /// Only these files, SCHEMA/NAME or their paths.
    keys: Vec<String>,
    /// Take the files that are named as run, whatever became of them.
    #[arg(long, requires = "keys")]
    done: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Serialize)]
struct Change {
    key: String,
    outcome: Outcome,
    sha256: Option<Checksum>,
    /// The row of a file that is half done, and what of it is.
    #[serde(skip)]
    half: Option<(i64, Progress)>,
}

impl Repair {
    pub(crate) async fn run(mut self, cx: &Context<'_>) -> anyhow::Result<()> {
        self.keys = self.keys.iter().map(|named| self.source.key(named)).collect();
        let files = self.source.read(cx)?;
        let session = Session::open(&self.connection.login(cx).await?).await?;
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        if files.is_empty() && self.keys.is_empty() {
            // All files gone is more likely a folder that is not there.
            self.source.none(cx, rows.is_empty())?;
        }
        let changes = self.changes(&plan(&files, &rows, Policy::default()))?;
        if !changes.is_empty() {
            let names: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
            cx.confirm(&format!("Change what the ledger says of {}?", names.join(", ")))?;
            with_lock(&session, async || {
                for Change { key, outcome, sha256, half } in &changes {
                    match (half, sha256) {
                        (Some((row, progress)), Some(sha256)) => {
                            ledger::set_progress(session.client(), *row, *sha256, progress).await?;
                        }
                        _ => ledger::note(session.client(), key, *sha256, *outcome, VERSION).await?,
                    }
                }
                Ok(())
            })
            .await?;
        }
        session.close().await;
        cx.printer.either(&changes, |printer| {
            for change in &changes {
                printer.line(format!("{}  {}", change.key, change.outcome));
            }
            if changes.is_empty() {
                printer.line("Nothing to repair.");
            }
        })
    }

    fn changes(&self, plan: &Plan<'_>) -> anyhow::Result<Vec<Change>> {
        let meant = |key: &str| self.keys.is_empty() || self.keys.iter().any(|meant| meant == key);
        let mut changes = Vec::new();
        for item in plan.items.iter().filter(|item| meant(item.file.key.as_str())) {
            if item.state == State::Changed || (self.done && item.state != State::UpToDate) {
                changes.push(Change {
                    key: item.file.key.to_string(),
                    outcome: Outcome::Repaired,
                    sha256: Some(item.file.checksum),
                    half: None,
                });
            } else if let Some(Refusal::DonePartChanged { done }) = &item.refusal {
                changes.push(half_done(item, *done)?);
            }
        }
        for row in plan.missing.iter().filter(|row| meant(&row.key)) {
            changes.push(Change { key: row.key.clone(), outcome: Outcome::Forgotten, sha256: None, half: None });
        }
        for key in &self.keys {
            let known = plan.items.iter().any(|item| item.file.key.as_str() == key)
                || plan.missing.iter().any(|row| &row.key == key);
            if !known {
                return Err(Usage(format!("neither the files nor the ledger know '{key}'")).into());
            }
        }
        Ok(changes)
    }
}

/// Takes the part that is done as it is now.
fn half_done(item: &Item<'_>, done: i64) -> anyhow::Result<Change> {
    let key = &item.file.key;
    let sql = item.file.content.as_ref().map_or("", |content| content.sql.as_str());
    let progress = usize::try_from(done).ok().and_then(|done| progress_of(sql, done));
    let (Some(row), Some(progress)) = (item.unfinished, progress) else {
        let why = format!(
            "of '{key}' {done} statements are done, and it now has fewer; if all that it should do is done, \
             `pgdb migrate repair {key} --done` takes it as run"
        );
        return Err(Usage(why).into());
    };
    let (outcome, sha256) = (Outcome::Unfinished, Some(item.file.checksum));
    Ok(Change { key: key.to_string(), outcome, sha256, half: Some((row.id, progress)) })
}
