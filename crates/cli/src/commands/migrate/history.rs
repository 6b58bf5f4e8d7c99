//! `pgdb migrate history`.

use super::Context;
use super::connection::ConnectionArgs;
use super::lines::{locked, moment};
use super::source::SourceArgs;
use clap::Args;
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
            let table = rows.iter().map(|row| {
                let mut more = Vec::new();
                if row.attempts > 1 {
                    more.push(format!("{} times", row.attempts));
                }
                more.extend(row.statements_done.map(|done| format!("{done} statements done")));
                more.extend(row.error.clone());
                if !row.locks.is_empty() {
                    more.push(locked(&row.locks));
                }
                vec![
                    moment(row.applied_at),
                    row.key.clone(),
                    row.outcome.to_string(),
                    format!("{} ms", row.took_ms),
                    row.applied_by.clone(),
                    row.version.clone(),
                    more.join("; "),
                ]
            });
            if rows.is_empty() {
                return;
            }
            printer.table(&["AT", "FILE", "OUTCOME", "TOOK", "BY", "VERSION", ""], table.collect());
        })
    }
}
