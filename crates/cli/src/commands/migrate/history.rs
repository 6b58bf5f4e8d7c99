//! `pgdb migrate history`.

use super::Context;
use super::connection::ConnectionArgs;
use super::lines::{locked, moment};
use super::lint::counted;
use super::source::SourceArgs;
use clap::Args;
use pgdb_core::migration::ledger::{LedgerRow, Outcome};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::session::Session;

/// What was run, when, by whom, and what it locked; newest first.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only this file, SCHEMA/NAME or its path.
    key: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// How many rows at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
}

impl History {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let session = Session::open(&self.connection.login(cx).await?).await?;
        let read = async |key: Option<&str>| ledger::history(session.client(), key, self.limit).await;
        let mut rows = read(self.key.as_deref()).await?.unwrap_or_default();
        if let Some(named) = self.key.as_deref().filter(|_| rows.is_empty()) {
            rows = read(Some(&self.source.key(named))).await?.unwrap_or_default();
            if rows.is_empty() {
                cx.printer
                    .warn(format!("the ledger knows no attempt of '{named}'; `pgdb migrate status` lists the files"));
            }
        }
        session.close().await;
        cx.printer.either(&rows, |printer| {
            if rows.is_empty() {
                return;
            }
            let table = rows.iter().map(|row| {
                let cells = vec![
                    moment(row.applied_at),
                    row.key.clone(),
                    row.outcome.to_string(),
                    format!("{} ms", row.took_ms),
                ];
                (cells, notes(row))
            });
            printer.table_with_notes(&["AT", "FILE", "OUTCOME", "TOOK"], table.collect());
        })
    }
}

/// What is too long for a column: by whom, how far, what was locked, and why it failed.
fn notes(row: &LedgerRow) -> Vec<String> {
    let mut first = vec![format!("by {} ({})", row.applied_by, row.version)];
    if row.attempts > 1 {
        first.push(format!("{} times", row.attempts));
    }
    let done = row.statements_done.and_then(|done| usize::try_from(done).ok());
    first.extend(done.map(|done| format!("{} done", counted(done, "statement"))));
    let mut notes = vec![first.join(", ")];
    if !row.locks.is_empty() {
        notes.push(locked(&row.locks));
    }
    // A file without a transaction has one row, whatever it took.
    let before = if row.outcome == Outcome::Applied { "failed before: " } else { "" };
    notes.extend(row.error.as_ref().map(|error| format!("{before}{error}")));
    notes
}
