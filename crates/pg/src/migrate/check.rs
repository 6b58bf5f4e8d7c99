//! The drift check: a database built anew from the files that the target has run, beside the target.
//!
//! Nothing else of the server is changed by it: statements that act outside the new database are left out, see
//! [`shared`](super::shared). Our own statements run in a session of their own, whose names are PostgreSQL's whatever
//! somebody has put into the target.

use super::drift::{Drift, compare};
use super::dump::{DumpError, PgDump};
use super::error::MigrateError;
use super::ledger;
use super::report::Failure;
use super::run::{Options, run};
use super::scratch::Scratch;
use super::session::{Login, Session};
use super::shared::{Skipped, inside_only};
use crate::connect::connect;
use crate::error::PgError;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::{LedgerRow, Standing};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftReport {
    /// Where the schema is not as the files make it.
    pub drifts: Vec<Drift>,
    /// Files that the target has not run, or not as they are now: they were left out, or are the reason.
    pub not_run: Vec<String>,
    /// Those of them that it has never run.
    pub pending: Vec<String>,
    /// What the target has run and has no file any more.
    pub without_file: Vec<String>,
    /// Statements that were not run again, for they act outside the new database.
    pub skipped: Vec<Skipped>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// PostgreSQL did not do something.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// Nothing was ever run here.
    #[error("this database has no ledger: nothing was ever run, so there is nothing to compare it with")]
    NoLedger,
    /// The files could not be run.
    #[error("the files cannot be run on a new database")]
    Migrate(#[from] MigrateError),
    /// One of them fails there.
    #[error("the files cannot be run on a new database: {0}")]
    FileFailed(Box<Failure>),
    /// A schema could not be dumped.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// It was to end.
    #[error("interrupted; the scratch database has been dropped")]
    Interrupted,
}

/// Compares the schema of the database that `login` names with what its files make.
///
/// When `cancelled` resolves the check ends, and what it made is removed.
pub async fn check(
    login: &Login,
    files: &[File],
    options: &Options,
    dump: &PgDump,
    cancelled: impl Future<Output = ()>,
) -> Result<DriftReport, CheckError> {
    tokio::pin!(cancelled);
    let target = connect(&login.target, &login.user, login.password.as_ref(), &login.db, login.timeout).await?;
    let rows = ledger::read(&target).await?.ok_or(CheckError::NoLedger)?;
    let (applied, mut report) = applied(files, &rows);
    tokio::select! {
        turn = Scratch::take_turn(&target) => turn?,
        () = &mut cancelled => return Err(CheckError::Interrupted),
    }
    let scratch = Scratch::make(&target).await?;
    let compared = async {
        let inside = Login { db: scratch.name().to_owned(), ..login.clone() };
        build(&inside, &applied, options).await?;
        let have = dump.schema(login, &login.db).await?;
        Ok(compare(&have, &dump.schema(login, scratch.name()).await?))
    };
    let compared = tokio::select! {
        compared = compared => compared,
        () = &mut cancelled => Err(CheckError::Interrupted),
    };
    let removed = scratch.remove(&target).await;
    target.close().await;
    report.drifts = compared?;
    removed?;
    Ok(report)
}

/// The files that the ledger says were run, and what else there is to know about them.
fn applied(files: &[File], rows: &[LedgerRow]) -> (Vec<File>, DriftReport) {
    let mut standing: BTreeMap<&str, Standing<'_>> = BTreeMap::new();
    for row in rows {
        standing.entry(row.key.as_str()).or_default().add(row);
    }
    let done = |file: &File| standing.get(file.key.as_str()).and_then(|standing| standing.done_of(file));
    let mut skipped = Vec::new();
    let mut inside = |file: &File| {
        let (kept, mut left_out) = inside_only(file);
        skipped.append(&mut left_out);
        kept
    };
    let applied: Vec<File> = files.iter().filter(|file| done(file).is_some()).map(&mut inside).collect();
    let is_same = |file: &&File| done(file).is_some_and(|row| row.checksum == Some(file.checksum));
    let not_run = files.iter().filter(|file| !is_same(file)).map(|file| file.key.to_string()).collect();
    let is_pending = |file: &&File| done(file).is_none();
    let pending = files.iter().filter(is_pending).map(|file| file.key.to_string()).collect();
    let has_file = |key: &str| files.iter().any(|file| file.key.as_str() == key);
    let gone = standing.iter().filter(|(key, standing)| standing.done.is_some() && !has_file(key));
    let without_file = gone.map(|(key, _)| (*key).to_owned()).collect();
    (applied, DriftReport { drifts: Vec::new(), not_run, pending, without_file, skipped })
}

async fn build(scratch: &Login, files: &[File], options: &Options) -> Result<(), CheckError> {
    let mut session = Session::open(scratch).await?;
    // Nobody listens there.
    let options = Options { notify: false, keep_going: false, ..options.clone() };
    let report = run(&mut session, files, &options, &mut |_| {}).await?;
    session.close().await;
    match report.files.into_iter().find_map(|file| file.failure) {
        Some(failure) => Err(CheckError::FileFailed(Box::new(failure))),
        None => Ok(()),
    }
}
