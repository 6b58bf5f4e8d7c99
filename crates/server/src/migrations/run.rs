//! Bringing one database of the daemon up to date.

use crate::instances::world::pg;
use crate::operations::StepError;
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::{Event, RunReport};
use pgdb_pg::migrate::run::{self, Options};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Client, PgError};
use tokio_util::sync::CancellationToken;

/// Who runs files, and who keeps the ledger.
pub(crate) struct Parties {
    /// The role that files run as.
    pub(crate) files: Login,
    /// A session of the role that keeps the ledger; none where that is the same one.
    pub(crate) keeper: Option<Client>,
}

/// Runs what a database lacks. A cancelled run takes its transaction with it.
pub(crate) async fn run(
    parties: Parties,
    files: &[File],
    options: &Options,
    cancelled: &CancellationToken,
) -> Result<RunReport, StepError> {
    let silent = &mut |_: Event<'_>| {};
    let work = async {
        let mut session = match parties.keeper {
            Some(keeper) => Session::open_apart(&parties.files, keeper).await?,
            None => Session::open(&parties.files).await?,
        };
        let report = run::run(&mut session, files, options, silent).await?;
        session.close().await;
        Ok::<_, MigrateError>(report)
    };
    tokio::select! {
        report = work => report.map_err(failed),
        () = cancelled.cancelled() => Err(StepError::lasting("cancelled", "the migrations were cancelled")),
    }
}

/// Why a run could not be done at all.
fn failed(error: MigrateError) -> StepError {
    match error {
        MigrateError::Postgres(error @ PgError::UnfitLedger { .. }) => {
            StepError::lasting("migration_refused", error.to_string())
        }
        MigrateError::Postgres(error) => pg(error),
        MigrateError::Locked { .. } => StepError::lasting("migration_locked", error.to_string()),
        error => StepError::lasting("migration_refused", error.to_string()),
    }
}

/// The first file that failed, as an error.
pub(crate) fn verdict(report: &RunReport) -> Result<(), StepError> {
    if report.is_complete() {
        return Ok(());
    }
    if let Some(refused) = report.refused.first() {
        return Err(StepError::lasting("migration_refused", format!("'{}' {}", refused.key, refused.why)));
    }
    let failures: Vec<String> =
        report.files.iter().filter_map(|file| Some(file.failure.as_ref()?.to_string())).collect();
    Err(StepError::lasting("migration_failed", failures.join("\n")))
}
