//! Running what a plan says.

use crate::error::PgError;
use crate::migrate::error::MigrateError;
use crate::migrate::file::run_file;
use crate::migrate::ledger;
use crate::migrate::lock;
use crate::migrate::report::{Event, FileReport, Listener, RefusedFile, RunReport};
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::LedgerRow;
use pgdb_core::migration::plan::{Plan, Policy, plan};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for another migrator.
const WAIT: Duration = Duration::from_secs(600);

/// How files are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is allowed.
    pub policy: Policy,
    /// Go on with the next file after a failure, and leave out refused files instead of running none.
    pub keep_going: bool,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// How often a file is tried again when a lock could not be had.
    pub lock_retries: u32,
    /// How long to wait for another migrator.
    pub wait: Duration,
    /// The role that files run as; the ledger stays the login's. No wall: a file can give the role back.
    pub role: Option<String>,
    /// What the ledger calls this program: its version.
    pub version: String,
    /// Whether to tell PostgREST (`NOTIFY pgrst`) when something was applied.
    pub notify: bool,
}

impl Options {
    /// What holds without flags.
    pub fn new(version: &str) -> Self {
        Self {
            policy: Policy::default(),
            keep_going: false,
            lock_timeout: Duration::from_secs(5),
            lock_retries: 10,
            wait: WAIT,
            role: None,
            version: version.to_owned(),
            notify: true,
        }
    }
}

/// Brings the database up to date: makes the ledger if there is none, waits for its turn, and runs what is to be run.
///
/// A file that fails is in the report, also when it failed because the session was lost; an error means that the run
/// as a whole could not be done. With nothing to do this is one question to the server.
pub async fn run(
    session: &mut Session,
    files: &[File],
    options: &Options,
    listener: Listener<'_>,
) -> Result<RunReport, MigrateError> {
    let begin = Instant::now();
    let rows = ledger::read(&session.client).await?.unwrap_or_default();
    let plan = checked(files, &rows, options)?;
    let mut report = if plan.to_run().next().is_none() {
        listener(Event::Planned { to_run: 0, files: files.len() });
        begun(&plan)
    } else {
        lock::acquire(&session.client, options.wait, listener).await?;
        let outcome = locked(session, files, options, listener).await;
        // With a lost session the lock is lost too.
        let released = lock::release(&session.client).await;
        let report = outcome?;
        if !session.client.is_closed() {
            released?;
        }
        report
    };
    report.took_ms = milliseconds(begin);
    Ok(report)
}

async fn locked(
    session: &mut Session,
    files: &[File],
    options: &Options,
    listener: Listener<'_>,
) -> Result<RunReport, MigrateError> {
    ledger::ensure(&session.client).await?;
    // Another migrator may have been at work while we waited.
    let rows = ledger::read(&session.client).await?.unwrap_or_default();
    let plan = checked(files, &rows, options)?;
    let mut report = begun(&plan);
    let setup = Setup::new(&session.client, options)?;
    let items: Vec<_> = plan.to_run().collect();
    listener(Event::Planned { to_run: items.len(), files: files.len() });
    for (index, item) in items.iter().enumerate() {
        let key = item.file.key.as_str();
        listener(Event::Started { key, number: index + 1, of: items.len() });
        prepare(session).await?;
        let file = run_file(session, &setup, item, options, listener).await;
        listener(Event::Ended(&file));
        let failed = note_end(&mut report, file);
        if failed && (!options.keep_going || session.client.is_closed()) {
            report.not_reached = items[index + 1..].iter().map(|item| item.file.key.to_string()).collect();
            break;
        }
    }
    if report.applied > 0 && options.notify && !session.client.is_closed() {
        session.client.batch("tell PostgREST", "NOTIFY pgrst, 'reload schema'").await?;
    }
    Ok(report)
}

fn note_end(report: &mut RunReport, file: FileReport) -> bool {
    let failed = !file.applied;
    report.applied += usize::from(!failed);
    report.failed += usize::from(failed);
    report.files.push(file);
    failed
}

/// The plan, unless it says that nothing may be run.
fn checked<'a>(files: &'a [File], rows: &'a [LedgerRow], options: &Options) -> Result<Plan<'a>, MigrateError> {
    let plan = plan(files, rows, options.policy);
    if !options.keep_going {
        let refusals: Vec<_> =
            plan.refusals().map(|(item, refusal)| (item.file.key.to_string(), refusal.clone())).collect();
        if !refusals.is_empty() {
            return Err(MigrateError::Refused(refusals));
        }
    }
    Ok(plan)
}

fn begun(plan: &Plan<'_>) -> RunReport {
    let refused =
        plan.refusals().map(|(item, refusal)| RefusedFile { key: item.file.key.to_string(), why: refusal.to_string() });
    let refused: Vec<RefusedFile> = refused.collect();
    let up_to_date_before = plan.items.len() - plan.to_run().count() - refused.len();
    RunReport { refused, up_to_date_before, ..RunReport::default() }
}

/// Does something while no migrator is at work on the database; waits for one at most ten minutes.
pub async fn with_lock<T>(
    session: &Session,
    work: impl AsyncFnOnce() -> Result<T, PgError>,
) -> Result<T, MigrateError> {
    lock::acquire(&session.client, WAIT, &mut |_| {}).await?;
    let outcome = work().await;
    let released = lock::release(&session.client).await;
    let done = outcome?;
    released?;
    Ok(done)
}

/// Prepares the statement that writes the ledger's row, once. It is planned with the search path that it runs with.
async fn prepare(session: &mut Session) -> Result<(), PgError> {
    if session.note.is_none() {
        session.client.batch("set the search path", "SET search_path TO pg_catalog").await?;
        session.note = Some(session.client.prepare("prepare the ledger's row", ledger::NOTE, 3).await?);
    }
    Ok(())
}

pub(crate) fn milliseconds(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}
