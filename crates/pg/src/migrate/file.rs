//! One file, from its text to its report.

use crate::error::PgError;
use crate::migrate::ahead::Ahead;
use crate::migrate::attempt::{Failed, Noted};
use crate::migrate::backoff::Backoff;
use crate::migrate::failure::Teller;
use crate::migrate::ledger;
use crate::migrate::report::{Event, Failure, FileReport, Listener, Notice};
use crate::migrate::run::{Options, milliseconds};
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{self, Statement};
use crate::migrate::steps::{self, Steps};
use crate::migrate::whole::Whole;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::Item;
use tokio::time::Instant;

/// Runs one file, and tells of it. A failure is written into the ledger too, if there is still a session.
pub(crate) async fn run_file(
    session: &mut Session,
    setup: &Setup,
    item: &Item<'_>,
    options: &Options,
    ahead: &mut Ahead<'_>,
    listener: Listener<'_>,
) -> FileReport {
    let begin = Instant::now();
    let file = item.file;
    let key = file.key.as_str();
    let mut backoff = Backoff::new(options.lock_retries, session.number());
    let mut notices = Vec::new();
    let outcome = attempt(session, setup, item, ahead, &mut backoff, &mut notices, listener).await;
    tell(session.take_notices(), key, &mut notices, listener);
    let took_ms = milliseconds(begin);
    let retries = backoff.attempts();
    let (noted, failure) = match outcome {
        Ok(noted) => (noted, None),
        Err(failed) => {
            let failure = ended_badly(session, setup, item, failed, took_ms, listener).await;
            (Noted::default(), Some(failure))
        }
    };
    let (locks, took_ms) = (noted.locks, noted.took_ms.unwrap_or(took_ms));
    FileReport { key: key.to_owned(), applied: failure.is_none(), took_ms, retries, notices, locks, failure }
}

/// Writes a failure into the ledger, unless that was done or cannot be done.
async fn ended_badly(
    session: &Session,
    setup: &Setup,
    item: &Item<'_>,
    failed: Failed,
    took_ms: u64,
    listener: Listener<'_>,
) -> Failure {
    let mut failure = *failed.failure;
    if failed.lost.is_some() {
        "the connection was lost; what was not committed is rolled back, and if the server has crashed the files that \
         were told of just before may be too: the next run sees in the ledger how far this one came"
            .clone_into(&mut failure.aftermath);
        return failure;
    }
    if !failed.noted {
        let (key, error) = (item.file.key.as_str(), failure.in_one_line());
        let (keeper, user) = (session.keeper(), session.user());
        // What is half done has its row, which tells what is to be gone on with.
        let known = match item.unfinished.filter(|row| row.statements_done.is_some()) {
            Some(row) => steps::note_failure(session, row.id, &[], &error).await,
            None => Ok(false),
        };
        let noted = match known {
            Ok(false) => {
                ledger::note_failure(keeper, user, key, item.file.checksum, took_ms, &setup.version, &error).await
            }
            known => known.map(drop),
        };
        warn_of(noted, key, listener);
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
    ahead: &mut Ahead<'_>,
    backoff: &mut Backoff,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
) -> Result<Noted, Failed> {
    let file = item.file;
    let key = file.key.as_str();
    // What was sent ahead was looked at then.
    let mut sent = match hearing(session, key, notices, listener, ahead.answer(session)).await {
        Some(Ok(noted)) => return Ok(noted),
        Some(Err(failed)) => Some(failed),
        None => None,
    };
    let content = match &file.content {
        Ok(content) => content,
        // A plan does not give out what cannot be read.
        Err(error) => {
            return Err(Failed::new(
                Failure { key: key.to_owned(), message: error.to_string(), ..Failure::default() },
                None,
            ));
        }
    };
    let sql = content.sql.as_str();
    let bare = Teller { key: &file.key, sql, statements: &[] };
    let statements = split::split(sql).map_err(|error| Failed::new(bare.unfit(&error), None))?;
    if content.directives.no_transaction {
        return in_steps(session, setup, item, (sql, &statements), backoff, notices, listener).await;
    }
    if statements.is_empty() {
        let noted = ledger::note_nothing(session.keeper(), session.user(), key, file.checksum, &setup.version);
        noted.await.map_err(|error| Failed::new(bare.plain(&error), Some(error)))?;
        let message = "it has no statement yet; it is run again when it has one";
        listener(Event::Warning { key: Some(key), message });
        return Ok(Noted::default());
    }
    let outer = split::outer(sql, &statements);
    if outer.is_none() {
        refuse_control(file, sql, &statements)?;
    }
    let whole = Whole { file, sql, statements: &statements, outer };
    loop {
        let running = whole.run(session, setup, sent.take());
        let failed = match hearing(session, key, notices, listener, running).await {
            Ok(noted) => {
                if whole.prepares() {
                    session.forget_prepared();
                }
                return Ok(noted);
            }
            Err(failed) => failed,
        };
        if !failed.may_pass || !backoff.wait(key, &failed.failure, listener).await {
            return Err(failed);
        }
        if whole.prepares() {
            // No rollback takes that back.
            session.clear_prepared().await.map_err(|error| Failed::new(bare.plain(&error), Some(error)))?;
        }
    }
}

/// Does something for a file, with what the server says meanwhile told at once.
async fn hearing<T>(
    session: &Session,
    key: &str,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            heard = session.hear() => tell(vec![heard], key, notices, listener),
        }
    }
}

async fn in_steps(
    session: &Session,
    setup: &Setup,
    item: &Item<'_>,
    text: (&str, &[Statement]),
    backoff: &mut Backoff,
    notices: &mut Vec<Notice>,
    listener: Listener<'_>,
) -> Result<Noted, Failed> {
    // It may throw away what was prepared.
    session.forget_prepared();
    let mut steps = match Steps::begin(item.file, text, session, setup, item.unfinished, listener).await {
        Ok(steps) => steps,
        Err(failed) => {
            if failed.lost.is_none() {
                let back = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
                warn_of(back, item.file.key.as_str(), listener);
            }
            return Err(failed);
        }
    };
    let mut outcome = steps.run(backoff, notices, listener).await;
    if let Err(failed) = &mut outcome
        && failed.lost.is_none()
    {
        let back = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
        let error = failed.failure.in_one_line();
        let noted = steps::note_failure(session, steps.row(), steps.seen(), &error).await;
        failed.noted = *noted.as_ref().unwrap_or(&false);
        warn_of(back.and(noted).map(drop), item.file.key.as_str(), listener);
    }
    outcome.map(Noted::from)
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
