//! `pgdb migrate status`.

use super::Context;
use super::connection::ConnectionArgs;
use super::lines::moment;
use super::source::SourceArgs;
use crate::error::Found;
use clap::Args;
use jiff::Timestamp;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::Outcome;
use pgdb_core::migration::plan::{Item, Policy, State, plan};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::session::Session;
use pgdb_server::migrations::directory::Found as FoundFiles;
use serde::Serialize;

/// How every file stands to the database.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// End with 3 unless everything is up to date.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Serialize)]
struct Printed<'a> {
    up_to_date: bool,
    files: Vec<PrintedFile<'a>>,
    /// Run, and their files are gone.
    missing: Vec<&'a str>,
    /// What lies in the folder and cannot be used; sentences.
    left_out: &'a [String],
}

#[derive(Debug, Serialize)]
struct PrintedFile<'a> {
    key: &'a str,
    state: State,
    out_of_order: bool,
    sha256: Checksum,
    applied_at: Option<Timestamp>,
    took_ms: Option<i64>,
    error: Option<String>,
}

impl Status {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let FoundFiles { files, left_out } = self.source.find(cx)?;
        let session = Session::open(&self.connection.login(cx).await?).await?;
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        session.close().await;
        let plan = plan(&files, &rows, Policy::default());
        let printed = Printed {
            up_to_date: plan.is_up_to_date() && left_out.is_empty(),
            files: plan.items.iter().map(printed).collect(),
            missing: plan.missing.iter().map(|row| row.key.as_str()).collect(),
            left_out: &left_out,
        };
        cx.printer.either(&printed, |printer| {
            let rows = plan.items.iter().zip(&printed.files).map(|(item, file)| {
                let late = if file.out_of_order { ", out of order" } else { "" };
                let ran = item.done.filter(|row| matches!(row.outcome, Outcome::Applied | Outcome::Imported));
                let cells = vec![
                    file.key.to_owned(),
                    format!("{}{late}", standing(item)),
                    file.applied_at.map(moment).unwrap_or_default(),
                    ran.map(|row| format!("{} ms", row.took_ms)).unwrap_or_default(),
                ];
                (cells, file.error.clone().into_iter().collect())
            });
            printer.table_with_notes(&["FILE", "STATE", "AT", "TOOK"], rows.collect());
            for key in &printed.missing {
                printer.warn(format!("{key} was run and its file is gone"));
            }
        })?;
        if self.exit_code && !printed.up_to_date {
            return Err(Found(3).into());
        }
        Ok(())
    }
}

fn printed<'a>(item: &Item<'a>) -> PrintedFile<'a> {
    let unreadable = item.file.content.as_ref().err().map(ToString::to_string);
    PrintedFile {
        key: item.file.key.as_str(),
        state: item.state,
        out_of_order: item.out_of_order,
        sha256: item.file.checksum,
        applied_at: item.done.map(|row| row.applied_at),
        took_ms: item.done.map(|row| row.took_ms),
        error: unreadable.or_else(|| item.trouble.and_then(|row| row.error.clone())),
    }
}

/// How a file stands, with what the ledger says of it where it was not simply run.
fn standing(item: &Item<'_>) -> String {
    let state = item.state.as_str().replace('_', " ");
    let failed = item.trouble.is_some_and(|row| row.outcome == Outcome::Failed);
    match (item.state, item.done.map(|row| row.outcome)) {
        (State::Pending, _) if failed => "failed".to_owned(),
        (State::UpToDate, Some(outcome)) if outcome != Outcome::Applied => format!("{state} ({outcome})"),
        _ if failed => format!("{state}, failed"),
        _ => state,
    }
}
