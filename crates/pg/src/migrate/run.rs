//! Running what a plan says.

use crate::error::PgError;
use crate::migrate::ahead::Ahead;
use crate::migrate::attempt::is_loss;
use crate::migrate::error::MigrateError;
use crate::migrate::file::run_file;
use crate::migrate::ledger;
use crate::migrate::lock;
use crate::migrate::mark;
use crate::migrate::note;
use crate::migrate::report::{Event, FileReport, Listener, RefusedFile, RunReport};
use crate::migrate::session::{Prepared, Session};
use crate::migrate::setup::Setup;
use crate::migrate::trust::{self, Use};
use crate::migrate::wall::{self, Ledger};
use futures::join;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::{LedgerRow, Outcome};
use pgdb_core::migration::plan::{Item, OutOfOrder, Plan, Policy, plan};
use std::time::Duration;
use tokio::time::Instant;

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
    /// The role that files run as; the ledger stays the login's. No wall, for a file can give the role back: that is
    /// [`Session::open_apart`].
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
            wait: lock::WAIT,
            role: None,
            version: version.to_owned(),
            notify: true,
        }
    }
}

/// What the ledger says before anything is locked, see [`look`].
#[derive(Debug)]
pub struct Seen(Vec<LedgerRow>);

impl Seen {
    /// Whether no migration is known to have been tried.
    pub fn is_first(&self) -> bool {
        self.0.is_empty()
    }
}

/// Brings the database up to date: makes the ledger if there is none, waits for its turn, and runs what is to be run.
///
/// A file that fails is in the report, also when it failed because the session was lost; an error means that the run
/// as a whole could not be done. With nothing to do the server is asked three short questions.
pub async fn run(
    session: &mut Session,
    files: &[File],
    options: &Options,
    listener: Listener<'_>,
) -> Result<RunReport, MigrateError> {
    let seen = look(session).await?;
    run_as_seen(session, seen, files, options, listener).await
}

/// The first part of [`run`], which does not need the files yet.
pub async fn look(session: &Session) -> Result<Seen, MigrateError> {
    let keeper = session.keeper();
    if session.is_apart() && wall::check(keeper, session.user()).await? == Ledger::Absent {
        return Ok(Seen(Vec::new()));
    }
    Ok(Seen(ledger::read(keeper).await?.unwrap_or_default()))
}

/// The rest of [`run`].
pub async fn run_as_seen(
    session: &mut Session,
    Seen(rows): Seen,
    files: &[File],
    options: &Options,
    listener: Listener<'_>,
) -> Result<RunReport, MigrateError> {
    let begin = Instant::now();
    let plan = checked(files, &rows, options)?;
    let mut report = if plan.to_run().next().is_none() {
        listener(Event::Planned { to_run: 0, files: files.len() });
        begun(&plan)
    } else {
        if session.client.has_odd_strings() {
            return Err(MigrateError::OddStrings);
        }
        lock::acquire(session.keeper(), options.wait, listener).await?;
        let outcome = locked(session, files, options, listener).await;
        // Both are on their way at once.
        let (told, released) = join!(tell(session, &outcome, options), lock::release(session.keeper()));
        let report = outcome?;
        unless_lost(told)?;
        // With a lost session the lock is lost too.
        unless_lost(released)?;
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
    let keeper = session.keeper();
    let made = ledger::ensure(keeper).await?;
    if session.is_apart() {
        wall::check_kept(keeper, session.user()).await?;
    }
    // Another migrator may have been at work while we waited.
    let mut rows = if made { Vec::new() } else { ledger::read(keeper).await?.unwrap_or_default() };
    if rows.iter().any(|row| row.outcome == Outcome::Unfinished) && mark::settle(keeper, options.wait, listener).await?
    {
        rows = ledger::read(keeper).await?.unwrap_or_default();
    }
    let plan = checked(files, &rows, options)?;
    let mut report = begun(&plan);
    let mut setup = Setup::of(&session.client, options).await?;
    let items: Vec<_> = plan.to_run().collect();
    let mut ahead = Ahead::new(&items, session.is_apart() || options.role.is_some());
    listener(Event::Planned { to_run: items.len(), files: files.len() });
    if options.policy.out_of_order == OutOfOrder::Warn {
        warn_of_late(&items, listener);
    }
    for (index, item) in items.iter().enumerate() {
        let key = item.file.key.as_str();
        listener(Event::Started { key, number: index + 1, of: items.len() });
        // The last file of all, or the note of a failure, waits for the disk for all of them.
        setup.more_to_come = index + 1 < items.len();
        let sent = ahead.send(session, &setup, index).await;
        if !sent {
            prepare(session).await?;
        }
        let file = run_file(session, &setup, item, options, &mut ahead, listener).await;
        listener(Event::Ended(&file));
        let failed = note_end(&mut report, file);
        if failed {
            session.forget_prepared();
        }
        if failed && !(options.keep_going && may_go_on(session).await?) {
            report.not_reached = items[index + 1..].iter().map(|item| item.file.key.to_string()).collect();
            break;
        }
    }
    Ok(report)
}

/// Says which files come late.
fn warn_of_late(items: &[&Item<'_>], listener: Listener<'_>) {
    for item in items {
        if let Some(after) = item.out_of_order {
            let message = format!(
                "it comes before '{}', which was already run: on a new database it runs before that one",
                after.key
            );
            listener(Event::Warning { key: Some(item.file.key.as_str()), message: &message });
        }
    }
}

/// Tells PostgREST if something was applied.
async fn tell(session: &Session, run: &Result<RunReport, MigrateError>, options: &Options) -> Result<(), PgError> {
    if options.notify && run.as_ref().is_ok_and(|report| report.applied > 0) {
        return session.keeper().batch("tell PostgREST", "NOTIFY pgrst, 'reload schema'").await;
    }
    Ok(())
}

/// Throws away what files have prepared, as everything else is that a file leaves in the session; and prepares the statement
/// that writes a file's row of the ledger, unless that was done or another session writes it.
async fn prepare(session: &Session) -> Result<(), PgError> {
    if session.prepared().others {
        session.clear_prepared().await?;
    }
    let prepared = session.prepared();
    if !prepared.note && !session.is_apart() {
        let sql = format!("{}; {}", Setup::OURS, note::prepare_sql(session.note_name()));
        session.client.batch("prepare the ledger's row", &sql).await?;
        session.set_prepared(Prepared { note: true, ..prepared });
    }
    Ok(())
}

/// Whether more files can be run after one that has failed: one that gave up the lock has let others in.
async fn may_go_on(session: &Session) -> Result<bool, MigrateError> {
    Ok(!session.is_lost() && lock::is_held(session.keeper()).await?)
}

/// What is not worth an error when the session was lost meanwhile: the report tells what that means.
fn unless_lost(done: Result<(), PgError>) -> Result<(), PgError> {
    done.or_else(|error| if is_loss(&error) { Ok(()) } else { Err(error) })
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
    trust::check(session.keeper(), Use::Write).await?;
    lock::acquire(session.keeper(), lock::WAIT, &mut |_| {}).await?;
    let outcome = work().await;
    let released = lock::release(session.keeper()).await;
    let done = outcome?;
    released?;
    Ok(done)
}

pub(crate) fn milliseconds(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}
