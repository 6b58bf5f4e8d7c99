//! One file, from its text to its report.

use crate::error::PgError;
use crate::migrate::attempt::Failed;
use crate::migrate::backoff::Backoff;
use crate::migrate::failure::Teller;
use crate::migrate::ledger;
use crate::migrate::report::{Event, Failure, FileReport, Listener, Notice};
use crate::migrate::run::{Options, milliseconds};
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{self, Kind, Statement};
use crate::migrate::steps::Steps;
use crate::migrate::whole::Whole;
use pgdb_core::migration::file::{Content, File};
use pgdb_core::migration::ledger::{Outcome, SeenLock};
use pgdb_core::migration::plan::Item;
use tokio::time::Instant;

/// What came out of a file that was run to its end.
#[derive(Debug, Default)]
struct Applied {
    locks: Vec<SeenLock>,
}

/// Runs one file, and tells of it. A failure is written into the ledger too, if there is still a session.
pub(crate) async fn run_file(
    session: &mut Session,
    setup: &Setup,
    item: &Item<'_>,
    options: &Options,
    listener: Listener<'_>,
) -> FileReport {
    let begin = Instant::now();
    let file = item.file;
    let key = file.key.as_str();
    let mut backoff = Backoff::new(options.lock_retries, u64::from(std::process::id()));
    let mut notices = Vec::new();
    let outcome = match &file.content {
        Ok(content) => attempt(session, setup, item, content, &mut backoff, &mut notices, listener).await,
        // A plan does not give out what cannot be read.
        Err(error) => {
            Err(Failed::new(Failure { key: key.to_owned(), message: error.to_string(), ..Failure::default() }, None))
        }
    };
    tell(session.take_notices(), key, &mut notices, listener);
    let took_ms = milliseconds(begin);
    let retries = backoff.attempts();
    let (locks, failure) = match outcome {
        Ok(applied) => (applied.locks, None),
        Err(failed) => {
            let failure = ended_badly(session, setup, file, failed, took_ms, listener).await;
            (Vec::new(), Some(failure))
        }
    };
    FileReport { key: key.to_owned(), applied: failure.is_none(), took_ms, retries, notices, locks, failure }
}

/// Writes a failure into the ledger, unless that was done or cannot be done.
async fn ended_badly(
    session: &Session,
    setup: &Setup,
    file: &File,
    failed: Failed,
    took_ms: u64,
    listener: Listener<'_>,
) -> Failure {
    let mut failure = *failed.failure;
    if failed.lost.is_some() {
        "the connection was lost; what was not committed is rolled back, and the next run sees in the ledger how far \
         this one came"
            .clone_into(&mut failure.aftermath);
        return failure;
    }
    if !failed.noted {
        let (key, error) = (file.key.as_str(), in_one_line(&failure));
        let (keeper, user) = (session.keeper(), session.user());
        let noted = ledger::note_failure(keeper, user, key, file.checksum, took_ms, &setup.version, &error);
        warn_of(noted.await, key, listener);
    }
    failure
}

fn warn_of(noted: Result<(), PgError>, key: &str, listener: Listener<'_>) {
    if let Err(error) = noted {
        let message = format!("the failure could not be written into the ledger: {error}");
        listener(Event::Warning { key: Some(key), message: &message });
    }
}

async fn attempt(
    session: &mut Session,
    setup: &Setup,
    item: &Item<'_>,
    content: &Content,
    backoff: &mut Backoff,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
) -> Result<Applied, Failed> {
    let file = item.file;
    let sql = content.sql.as_str();
    let bare = Teller { key: &file.key, sql, statements: &[] };
    let statements = split::split(sql).map_err(|error| Failed::new(bare.unfit(&error), None))?;
    if content.directives.no_transaction {
        return in_steps(session, setup, item, (sql, &statements), backoff, notices, listener).await;
    }
    let outer = split::outer(sql, &statements);
    if outer.is_none() {
        refuse_control(file, sql, &statements)?;
    }
    let whole = Whole { file, sql, statements: &statements, outer };
    loop {
        let failed = match whole_attempt(session, setup, &whole, notices, listener).await {
            Ok(locks) => {
                if whole.deallocates() {
                    session.prepared = false;
                }
                return Ok(Applied { locks });
            }
            Err(failed) => failed,
        };
        if !failed.may_pass || !backoff.wait(file.key.as_str(), &failed.failure, listener).await {
            return Err(failed);
        }
    }
}

/// One attempt, with what the server says meanwhile told at once.
async fn whole_attempt(
    session: &Session,
    setup: &Setup,
    whole: &Whole<'_>,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
) -> Result<Vec<SeenLock>, Failed> {
    let key = whole.file.key.as_str();
    let running = whole.run(session, setup);
    tokio::pin!(running);
    loop {
        tokio::select! {
            outcome = &mut running => return outcome,
            heard = session.hear() => tell(vec![heard], key, notices, listener),
        }
    }
}

async fn in_steps(
    session: &mut Session,
    setup: &Setup,
    item: &Item<'_>,
    text: (&str, &[Statement]),
    backoff: &mut Backoff,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
) -> Result<Applied, Failed> {
    let earlier = item.trouble.filter(|row| row.outcome == Outcome::Unfinished);
    if text.1.iter().any(|statement| statement.kind.is_alone() || statement.kind == Kind::Procedural)
        && let Err(error) = session.open_watcher().await
    {
        let message = format!("there is no second session to see what it locks: {error}");
        listener(Event::Warning { key: Some(item.file.key.as_str()), message: &message });
    }
    let session: &Session = session;
    let mut steps = Steps::begin(item.file, text, session, setup, earlier, listener).await?;
    let mut outcome = steps.run(backoff, notices, listener).await;
    if let Err(failed) = &mut outcome
        && failed.lost.is_none()
    {
        let back = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
        let error = in_one_line(&failed.failure);
        let noted = ledger::fail_steps(session.keeper(), steps.row(), steps.kept(), steps.has_left(), &error).await;
        failed.noted = steps.kept() > 0 || steps.has_left();
        warn_of(back.and(noted), item.file.key.as_str(), listener);
    }
    outcome.map(|locks| Applied { locks })
}

/// BEGIN and COMMIT may only stand around the whole file.
fn refuse_control(file: &File, sql: &str, statements: &[Statement]) -> Result<(), Failed> {
    let Some(found) = statements.iter().find(|statement| statement.kind.controls_transaction()) else { return Ok(()) };
    let teller = Teller { key: &file.key, sql, statements };
    let mut failure =
        teller.at(found.span.start, "a file runs in one transaction, which it cannot begin or end".to_owned());
    failure.hint = Some(
        "leave BEGIN and COMMIT out, or put one pair around the whole file; a file that needs several transactions begins \
         with the line `-- pgdb: no-transaction`"
            .to_owned(),
    );
    "nothing of this file was run".clone_into(&mut failure.aftermath);
    Err(Failed::new(failure, None))
}

pub(crate) fn tell(heard: Vec<Notice>, key: &str, notices: &mut Vec<Notice>, listener: Listener<'_>) {
    for notice in heard {
        // What PostgreSQL says to a ROLLBACK of ours that was not needed.
        if notice.sqlstate == "25P01" {
            continue;
        }
        listener(Event::Notice { key, notice: &notice });
        notices.push(notice);
    }
}

/// What the ledger keeps of a failure. Details can quote rows, and are left out.
fn in_one_line(failure: &Failure) -> String {
    let place = match (failure.line, failure.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        (Some(line), None) => format!("line {line}: "),
        _ => String::new(),
    };
    let sqlstate = failure.sqlstate.as_ref().map(|code| format!(" (SQLSTATE {code})")).unwrap_or_default();
    format!("{place}{}{sqlstate}", failure.message)
}
