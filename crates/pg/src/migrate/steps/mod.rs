//! A file without a transaction: statement by statement, each committed by itself.
//!
//! How far it came is in the ledger. Where PostgreSQL allows it a statement and that note are one transaction, so that
//! after a crash the file goes on exactly where it was. The others (`CREATE INDEX CONCURRENTLY`, `VACUUM`…) are noted
//! right after; of these the one that was at work when the session ended may be run once more.

mod leftovers;
mod replay;
mod row;

use crate::error::PgError;
use crate::migrate::attempt::{Failed, copy, run_counting};
use crate::migrate::backoff::Backoff;
use crate::migrate::failure::{NO_DISCARD, Teller};
use crate::migrate::file::tell;
use crate::migrate::mark;
use crate::migrate::report::{Event, Failure, Listener, Notice};
use crate::migrate::run::milliseconds;
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{Kind, Statement, split, words};
use crate::migrate::watch::watched;
use futures::join;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::{Before, LedgerRow, Progress, SeenLock};
pub(crate) use row::fail as note_failure;
use std::time::Duration;
use tokio::time::Instant;

/// A statement cannot be in a transaction, or ends one itself.
const NOT_TOGETHER: [&str; 2] = ["25001", "2D000"];

/// A file that is run in steps.
pub(crate) struct Steps<'a> {
    pub(crate) file: &'a File,
    pub(crate) sql: &'a str,
    pub(crate) statements: &'a [Statement],
    pub(crate) session: &'a Session,
    /// The number of its row in the ledger.
    row: i64,
    /// How many statements are done and noted.
    kept: usize,
    /// How things were before the statement that may be half done: the first that is not noted.
    before: Option<Before>,
    /// Whether a transaction of the file's own is open, and since when.
    open: Option<Instant>,
    /// Locks that were seen from outside and are not in the ledger yet.
    seen: Vec<SeenLock>,
}

/// The progress of a file of which so many statements are done, as it is now; `None` if it has fewer, or cannot be cut into
/// statements.
pub fn progress_of(sql: &str, done: usize) -> Option<Progress> {
    let statements = split(sql).ok().filter(|statements| statements.len() >= done)?;
    Some(Progress::of(done_part(sql, &statements, done)))
}

/// The part of a file's SQL that is done with so many statements: what an edit may not change.
fn done_part<'a>(sql: &'a str, statements: &[Statement], done: usize) -> &'a str {
    let last = done.checked_sub(1).and_then(|last| statements.get(last));
    let end = last.map_or(0, |last| last.data.as_ref().map_or(last.span.end, |data| data.end));
    &sql[..end]
}

impl<'a> Steps<'a> {
    /// Finds or makes the row. `earlier` is that of an attempt that did not come to its end.
    pub(crate) async fn begin(
        file: &'a File,
        (sql, statements): (&'a str, &'a [Statement]),
        session: &'a Session,
        setup: &Setup,
        earlier: Option<&LedgerRow>,
        listener: Listener<'_>,
    ) -> Result<Self, Failed> {
        let (before, seen) = (None, Vec::new());
        let mut steps = Self { file, sql, statements, session, row: 0, kept: 0, before, open: None, seen };
        let set = session.client.batch("set the session up", &setup.loose()).await;
        steps.ours(set)?;
        match earlier.filter(|row| row.goes_on_with(file)) {
            Some(row) => steps.go_on(row, listener).await?,
            None => {
                if let Some(done) = earlier.and_then(|row| row.statements_done).filter(|done| *done > 0) {
                    let message =
                        format!("an earlier run did {done} statements of it before they were changed; it begins anew");
                    listener(Event::Warning { key: Some(file.key.as_str()), message: &message });
                }
                let begun = row::begin(session, file.key.as_str(), file.checksum, &setup.version).await;
                steps.row = steps.ours(begun)?;
            }
        }
        Ok(steps)
    }

    /// Goes on behind what an earlier run did, in a session that is as that left it.
    async fn go_on(&mut self, row: &LedgerRow, listener: Listener<'_>) -> Result<(), Failed> {
        let count = self.statements.len();
        let done = row.statements_done.and_then(|done| usize::try_from(done).ok()).unwrap_or(0).min(count);
        let progress = self.progress(done);
        if row.progress.as_ref().is_some_and(|noted| noted.bytes != progress.bytes) {
            let message = format!("the ledger says that {done} statements of it are done, and they end elsewhere");
            return Err(self.failed(self.teller().at(progress.bytes, message), None));
        }
        let message = format!("an earlier run did {done} of {count} statements; it goes on from there");
        listener(Event::Warning { key: Some(self.file.key.as_str()), message: &message });
        (self.row, self.kept) = (row.id, done);
        self.before = row.progress.as_ref().and_then(|progress| progress.before.clone());
        let past = replay::past(self.sql, &self.statements[..done]);
        if let Some((index, what)) = past.lost {
            let message = format!(
                "the part of the file that is done left {what} in its session, which has ended; the rest cannot go on \
                 without it"
            );
            let mut failure = self.teller().at(self.statements[index].span.start, message);
            let key = &self.file.key;
            failure.hint = Some(format!(
                "do the rest by hand and take the file as run with `pgdb migrate repair {key} --done`; what needs one \
                 session is best in a file of its own"
            ));
            return Err(self.failed(failure, None));
        }
        let resumed = row::resume(self.session, self.row, self.file.checksum, &progress).await;
        self.ours(resumed)?;
        for index in past.again.iter().chain(&past.chain) {
            self.send(*index).await?;
        }
        self.open = (!past.chain.is_empty()).then(Instant::now);
        Ok(())
    }

    fn progress(&self, done: usize) -> Progress {
        Progress::of(done_part(self.sql, self.statements, done))
    }

    /// What was seen to be locked and is not in the ledger yet.
    pub(crate) fn seen(&self) -> &[SeenLock] {
        &self.seen
    }

    /// The number of its row.
    pub(crate) fn row(&self) -> i64 {
        self.row
    }

    /// Runs what is not done yet; gives what all of the file was seen to lock.
    pub(crate) async fn run(
        &mut self,
        backoff: &mut Backoff,
        notices: &mut Vec<Notice>,
        listener: Listener<'_>,
    ) -> Result<Vec<SeenLock>, Failed> {
        for index in self.kept..self.statements.len() {
            let kind = self.statements[index].kind;
            while let Err(failed) = self.one(index, listener).await {
                // What the file began itself is rolled back, and one statement of it alone is not to be repeated.
                let again = failed.may_pass && self.open.is_none() && failed.lost.is_none();
                if !again || !backoff.wait(self.file.key.as_str(), &failed.failure, listener).await {
                    return Err(failed);
                }
            }
            tell(self.session.take_notices(), self.file.key.as_str(), notices, listener);
            if kind.controls_transaction() {
                let goes_on = !kind.ends_transaction() && (kind == Kind::Begin || self.open.is_some());
                self.open = goes_on.then(Instant::now);
            }
        }
        if self.open.is_some() {
            let _ = self.session.client.batch("roll back", "ROLLBACK").await;
            let message = "the file ends in a transaction that it began: its COMMIT is missing".to_owned();
            return Err(self.failed(self.teller().at(self.sql.trim_end().len(), message), None));
        }
        self.ours(self.session.client.batch("set the session back", Setup::LOOSE_BACK).await)?;
        self.ours(row::end(self.session, self.row).await)
    }

    /// One statement, and the note that it is done.
    async fn one(&mut self, index: usize, listener: Listener<'_>) -> Result<(), Failed> {
        let kind = self.statements[index].kind;
        if kind == Kind::Discard {
            let message = "DISCARD ALL would give up the lock that keeps other migrators out".to_owned();
            let mut failure = self.teller().at(self.statements[index].span.start, message);
            failure.hint = Some(NO_DISCARD.to_owned());
            return Err(self.failed(failure, None));
        }
        if let Some(since) = self.open {
            let commits = matches!(kind, Kind::Commit | Kind::CommitAndChain);
            if commits && self.session.is_apart() {
                return self.commit_apart(index, true, since).await;
            }
            let noted = commits && self.note_inside(index + 1).await?;
            self.send(index).await?;
            if kind.ends_transaction() || noted {
                self.noted_up_to(index + 1, !noted).await?;
            }
            return Ok(());
        }
        if self.before.is_some() && self.cleared(index, listener).await? {
            return self.noted_up_to(index + 1, true).await;
        }
        if matches!(kind, Kind::CreateIndexConcurrently | Kind::ReindexConcurrently) {
            self.look_before(index).await?;
        }
        if kind.controls_transaction() {
            return self.send(index).await;
        }
        if !kind.is_alone() && self.together(index).await? {
            return Ok(());
        }
        self.alone(index).await?;
        self.noted_up_to(index + 1, true).await
    }

    /// The statement and its note in one transaction. `false`: this statement cannot be in one, and was not run.
    async fn together(&mut self, index: usize) -> Result<bool, Failed> {
        let client = &self.session.client;
        let since = Instant::now();
        self.ours(client.batch("begin a transaction", "BEGIN").await)?;
        match self.send(index).await {
            Ok(()) => {}
            Err(failed) if failed.failure.sqlstate.as_deref().is_some_and(|code| NOT_TOGETHER.contains(&code)) => {
                return Ok(false);
            }
            Err(failed) => return Err(failed),
        }
        if self.session.is_apart() {
            return self.commit_apart(index, false, since).await.map(|()| true);
        }
        let note = self.note(index + 1)?;
        let (noted, committed) = join!(client.batch("write the ledger", &note), client.batch("commit", "COMMIT"));
        self.ours(noted.and(committed))?;
        self.is_noted(index + 1);
        Ok(true)
    }

    /// Notes in the file's own transaction that so many are done. Not in one that must not write, which has done nothing
    /// that could be half done.
    async fn note_inside(&self, done: usize) -> Result<bool, Failed> {
        let client = &self.session.client;
        let read_only = client.first_value("look at the transaction", "SHOW transaction_read_only").await;
        if self.ours(read_only)?.flatten().as_deref() == Some("on") {
            return Ok(false);
        }
        let noted = client.batch("write the ledger", &self.note(done)?).await;
        if noted.is_err() {
            // What was put off until the commit has failed, and the transaction with it.
            let _ = client.batch("roll back", "ROLLBACK").await;
        }
        self.ours(noted).map(|()| true)
    }

    /// Commits the transaction that is open for so long, and notes in the other session that the statement at `index` is
    /// done; with `own` that statement is the COMMIT, else it is ours.
    async fn commit_apart(&mut self, index: usize, own: bool, since: Instant) -> Result<(), Failed> {
        let asked = self.session.client.first_value("ask for the transaction", mark::WHICH).await;
        let xid = self.ours(asked)?.flatten().unwrap_or_default();
        let progress = self.progress(index + 1);
        self.ours(row::add_held(self.session, self.row, &xid, milliseconds(since)).await)?;
        self.ours(mark::begin_steps(self.session, self.row, index + 1, &progress, &xid).await)?;
        let sent = match own {
            true => self.send(index).await,
            false => self.ours(self.session.client.batch("commit", "COMMIT").await),
        };
        if self.ours(mark::end_steps(self.session, self.row, &xid).await)? {
            self.kept = index + 1;
            return Ok(());
        }
        sent?;
        Err(self.failed(self.teller().plain(&PgError::TransactionEnded), Some(PgError::TransactionEnded)))
    }

    /// The statement by itself, with another session that looks what it locks.
    async fn alone(&mut self, index: usize) -> Result<(), Failed> {
        let mut first = words(&self.sql[self.statements[index].span.clone()]);
        let (verb, what) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        // A database cannot be copied while there is a second session in it.
        let makes_database = verb.eq_ignore_ascii_case("create") && what.eq_ignore_ascii_case("database");
        let sent = if makes_database {
            self.send(index).await
        } else {
            let (sent, sights) = watched(self.session, Duration::ZERO, self.send(index)).await;
            self.seen.extend(sights.into_locks());
            sent
        };
        match sent {
            Ok(()) => Ok(()),
            Err(failed) => Err(self.with_leftovers(failed).await),
        }
    }

    async fn send(&self, index: usize) -> Result<(), Failed> {
        let statement = &self.statements[index];
        let sent = match statement.kind {
            Kind::CopyFromStdin => copy(self.session, self.sql, statement).await,
            _ => {
                let sent = run_counting(self.session, &self.sql[statement.span.clone()]).await;
                sent.map(drop).map_err(|(error, _)| error)
            }
        };
        let Err(error) = sent else { return Ok(()) };
        // Ends the transaction that has failed, if there is one; without one PostgreSQL warns, which nobody has to see.
        let _ = self.session.client.batch("roll back", "ROLLBACK").await;
        let error = PgError::query("run the statement", error);
        Err(self.failed(self.teller().server(&error, statement.span.start, 0, index), Some(error)))
    }

    /// SQL that notes how many are done, as the login and not as whom the file runs; inside a transaction.
    fn note(&self, done: usize) -> Result<String, Failed> {
        let sql = self.ours(row::done(self.session, self.row, done, &self.progress(done), &self.seen, true))?;
        Ok(format!("{}; {sql}", Setup::FOR_A_NOTE))
    }

    async fn noted_up_to(&mut self, done: usize, write: bool) -> Result<(), Failed> {
        if write {
            let sql = self.ours(row::done(self.session, self.row, done, &self.progress(done), &self.seen, false))?;
            self.ours(row::ask(self.session, "write the ledger", &sql, &[]).await)?;
        }
        self.is_noted(done);
        Ok(())
    }

    fn is_noted(&mut self, done: usize) {
        self.kept = done;
        self.seen.clear();
        self.before = None;
    }

    fn ours<T>(&self, result: Result<T, PgError>) -> Result<T, Failed> {
        result.map_err(|error| self.failed(self.teller().plain(&error), Some(error)))
    }

    fn failed(&self, mut failure: Failure, error: Option<PgError>) -> Failed {
        failure.aftermath = match self.kept {
            0 => "nothing of this file was kept".to_owned(),
            1 => "its first statement is done and kept; the next run goes on behind it".to_owned(),
            kept => format!("its first {kept} statements are done and kept; the next run goes on behind them"),
        };
        Failed::new(failure, error)
    }

    fn teller(&self) -> Teller<'a> {
        Teller { key: &self.file.key, sql: self.sql, statements: self.statements }
    }
}
