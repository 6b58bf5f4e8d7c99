//! A file without a transaction: statement by statement, each committed by itself.
//!
//! How far it came is in the ledger. Where PostgreSQL allows it a statement and that note are one transaction, so that
//! after a crash the file goes on exactly where it was. The others (`CREATE INDEX CONCURRENTLY`, `VACUUM`…) are noted
//! right after; of these the one that was at work when the session ended may be run once more.

use crate::error::PgError;
use crate::migrate::attempt::{Failed, copy, run_counting};
use crate::migrate::backoff::Backoff;
use crate::migrate::failure::Teller;
use crate::migrate::file::tell;
use crate::migrate::index;
use crate::migrate::ledger;
use crate::migrate::leftover::{Before, Left, drop_index};
use crate::migrate::mark;
use crate::migrate::report::{Event, Failure, Listener, Notice};
use crate::migrate::run::milliseconds;
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{Kind, Statement};
use crate::migrate::watch::Seen;
use crate::quote;
use futures::join;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::{LedgerRow, SeenLock};
use tokio::time::Instant;

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
    /// Whether an earlier run broke off, so that the first statement may have been done and not noted.
    in_doubt: bool,
    /// How things were before the statement that an earlier run broke off in, if that makes indexes.
    before: Option<Before>,
    /// Whether the statement that failed has left invalid indexes, which the next run is to find.
    left: bool,
    /// What statements have locked that are not noted yet.
    seen: Vec<SeenLock>,
    /// The process of the session that runs them, for the one that watches it.
    pid: Option<String>,
    /// When the transaction that is open was begun.
    begun: Instant,
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
        let mut steps = Self {
            file,
            sql,
            statements,
            session,
            row: 0,
            kept: 0,
            in_doubt: false,
            before: None,
            left: false,
            seen: Vec::new(),
            pid: None,
            begun: Instant::now(),
        };
        let key = Some(file.key.as_str());
        if let Some(row) = earlier {
            let doing = steps.ours(ledger::doing(session.keeper(), row.id).await)?;
            // What is at work otherwise was settled when the run began.
            steps.before = doing.and_then(|doing| serde_json::from_str(&doing).ok());
            let done = row.statements_done.and_then(|done| usize::try_from(done).ok()).unwrap_or(0);
            if row.checksum == Some(file.checksum) {
                let message =
                    format!("an earlier run did {done} of {} statements; it goes on from there", statements.len());
                listener(Event::Warning { key, message: &message });
                (steps.row, steps.kept, steps.in_doubt) = (row.id, done.min(statements.len()), true);
            } else {
                let message =
                    format!("an earlier run did {done} statements of it before it was changed; it begins anew");
                listener(Event::Warning { key, message: &message });
            }
        }
        if !steps.in_doubt {
            let (keeper, user) = (session.keeper(), session.user());
            let begun = ledger::begin_steps(keeper, user, file.key.as_str(), file.checksum, &setup.version);
            steps.row = steps.ours(begun.await)?;
        }
        let set = session.client.batch("set the session up", &setup.loose()).await;
        steps.ours(set)?;
        if session.watcher().is_some() {
            let pid = session.client.first_value("ask for the process", "SELECT pg_catalog.pg_backend_pid()").await;
            steps.pid = steps.ours(pid)?.flatten();
        }
        if let Some(before) = &steps.before {
            steps.tidy(before, listener).await?;
        }
        Ok(steps)
    }

    /// How many statements are done.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// The number of its row.
    pub(crate) fn row(&self) -> i64 {
        self.row
    }

    /// Whether it has left invalid indexes behind.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// Runs what is not done yet.
    pub(crate) async fn run(
        &mut self,
        backoff: &mut Backoff,
        notices: &mut Vec<Notice>,
        listener: Listener<'_>,
    ) -> Result<Vec<SeenLock>, Failed> {
        let first = self.kept;
        let mut own_transaction = false;
        for index in first..self.statements.len() {
            let in_doubt = self.in_doubt && index == first;
            let kind = self.statements[index].kind;
            while let Err(failed) = self.one(index, own_transaction, in_doubt).await {
                // What the file began itself is rolled back, and one statement of it alone is not to be repeated.
                let again = failed.may_pass && !own_transaction && failed.lost.is_none();
                if !again || !backoff.wait(self.file.key.as_str(), &failed.failure, listener).await {
                    return Err(failed);
                }
            }
            tell(self.session.take_notices(), self.file.key.as_str(), notices, listener);
            own_transaction = (own_transaction || kind == Kind::Begin) && !ends_transaction(kind);
        }
        if own_transaction {
            let _ = self.session.client.batch("roll back", "ROLLBACK").await;
            let message = "the file ends in a transaction that it began: its COMMIT is missing".to_owned();
            return Err(self.failed(self.teller().at(self.sql.trim_end().len(), message), None));
        }
        self.ours(self.session.client.batch("set the session back", Setup::LOOSE_BACK).await)?;
        self.ours(ledger::end_steps(self.session.keeper(), self.row).await)
    }

    /// One statement, and the note that it is done.
    async fn one(&mut self, index: usize, own_transaction: bool, in_doubt: bool) -> Result<(), Failed> {
        let kind = self.statements[index].kind;
        if kind == Kind::Discard {
            let message = "DISCARD ALL would give up the lock that keeps other migrators out".to_owned();
            return Err(self.failed(self.teller().at(self.statements[index].span.start, message), None));
        }
        if own_transaction {
            if kind == Kind::Commit && self.session.is_apart() {
                return self.commit_apart(index, async |steps| steps.send(index).await).await;
            }
            let noted = kind == Kind::Commit && self.note_inside(index + 1).await?;
            self.send(index).await?;
            if ends_transaction(kind) {
                self.noted_up_to(index + 1, !noted).await?;
            }
            return Ok(());
        }
        if kind.controls_transaction() {
            self.begun = Instant::now();
            return self.send(index).await;
        }
        if in_doubt
            && kind == Kind::CreateIndexConcurrently
            && let Some(before) = &self.before
            && self.ours(before.is_made(&self.session.client).await)?
        {
            return self.noted_up_to(index + 1, true).await;
        }
        let apart = kind.is_alone() || kind == Kind::Procedural;
        if !apart && self.together(index).await? {
            return Ok(());
        }
        self.apart(index).await?;
        self.noted_up_to(index + 1, true).await
    }

    /// Removes what an earlier run has left, and nothing else; says what it did.
    async fn tidy(&self, before: &Before, listener: Listener<'_>) -> Result<(), Failed> {
        let client = &self.session.client;
        let messages = match self.ours(before.left(client).await)? {
            Left::Ours(names) => {
                for name in &names {
                    self.ours(drop_index(client, name).await)?;
                }
                let told =
                    |name| format!("an earlier attempt left the invalid index {name}; it is dropped and made anew");
                names.iter().map(told).collect()
            }
            Left::Unclear(names) => vec![format!(
                "an earlier attempt may have left one of the invalid indexes {}; they stay, for it cannot be told which",
                names.join(", ")
            )],
            Left::Busy(names) => vec![format!(
                "the invalid index {} stays, for another session is at work on its table",
                names.join(", ")
            )],
        };
        for message in &messages {
            listener(Event::Warning { key: Some(self.file.key.as_str()), message });
        }
        Ok(())
    }

    /// The statement and its note in one transaction. `false`: this statement cannot run in one.
    async fn together(&mut self, index: usize) -> Result<bool, Failed> {
        let client = &self.session.client;
        self.begun = Instant::now();
        self.ours(client.batch("begin a transaction", "BEGIN").await)?;
        match self.send(index).await {
            Ok(()) => {}
            Err(failed) if failed.failure.sqlstate.as_deref() == Some("25001") => return Ok(false),
            Err(failed) => return Err(failed),
        }
        if self.session.is_apart() {
            let commit = async |steps: &Self| steps.ours(steps.session.client.batch("commit", "COMMIT").await);
            return self.commit_apart(index, commit).await.map(|()| true);
        }
        let note = self.note(index + 1);
        let (noted, committed) = join!(client.batch("write the ledger", &note), client.batch("commit", "COMMIT"));
        self.ours(noted.and(committed))?;
        self.kept = index + 1;
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
        let noted = client.batch("write the ledger", &self.note(done)).await;
        if noted.is_err() {
            // What was put off until the commit has failed, and the transaction with it.
            let _ = client.batch("roll back", "ROLLBACK").await;
        }
        self.ours(noted).map(|()| true)
    }

    /// Commits the open transaction, whose last statement is the one at `index`, and notes it in the other session.
    async fn commit_apart(
        &mut self,
        index: usize,
        commit: impl AsyncFnOnce(&Self) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let asked = self.session.client.first_value("ask for the transaction", mark::WHICH).await;
        let xid = self.ours(asked)?.flatten().unwrap_or_default();
        self.ours(mark::begin_steps(self.session, self.row, index + 1, &xid, milliseconds(self.begun)).await)?;
        let sent = commit(self).await;
        if self.ours(mark::end_steps(self.session, self.row, &xid).await)? {
            self.kept = index + 1;
            return Ok(());
        }
        sent?;
        Err(self.failed(self.teller().plain(&PgError::TransactionEnded), Some(PgError::TransactionEnded)))
    }

    /// The statement by itself. If it leaves invalid indexes they are told, and removed before it is tried again.
    async fn apart(&mut self, index: usize) -> Result<(), Failed> {
        let kind = self.statements[index].kind;
        if !matches!(kind, Kind::CreateIndexConcurrently | Kind::ReindexConcurrently) {
            return self.send_watched(index).await;
        }
        let client = &self.session.client;
        let made = index::made(&self.sql[self.statements[index].span.clone()]);
        let before = self.ours(Before::look(client, made.as_ref()).await)?;
        let doing = serde_json::to_string(&before).unwrap_or_default();
        self.ours(ledger::begin_doing(self.session.keeper(), self.row, &doing).await)?;
        let Err(mut failed) = self.send_watched(index).await else { return Ok(()) };
        // A session that was lost cannot be asked; the next run looks.
        let Ok(Left::Ours(names)) = before.left(client).await else {
            self.left = true;
            return Err(failed);
        };
        self.left = false;
        for name in names {
            let dropped = failed.may_pass && drop_index(client, &name).await.is_ok();
            self.left |= !dropped;
            let left = match dropped {
                true => format!("it left the invalid index {name}, which was dropped"),
                false => format!("it left the invalid index {name}; the next run drops it and makes it anew"),
            };
            let aftermath = &mut failed.failure.aftermath;
            *aftermath = if aftermath.is_empty() { left } else { format!("{left}; {aftermath}") };
        }
        Err(failed)
    }

    /// Sends a statement that commits by itself, while another session looks at what it locks.
    async fn send_watched(&mut self, index: usize) -> Result<(), Failed> {
        let (Some(watcher), Some(pid)) = (self.session.watcher(), self.pid.as_deref()) else {
            return self.send(index).await;
        };
        let mut seen = Seen::default();
        let sent = {
            let sending = self.send(index);
            tokio::pin!(sending);
            tokio::select! {
                sent = &mut sending => sent,
                // The watcher was lost: then the rest goes unseen.
                Err(_) = seen.watch(watcher, pid) => sending.await,
            }
        };
        self.seen.extend(seen.into_locks());
        sent
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
    fn note(&self, done: usize) -> String {
        format!("{}; {}", Setup::FOR_A_NOTE, ledger::steps_done_sql(self.row, done, &ledger::held_here()))
    }

    async fn noted_up_to(&mut self, done: usize, write: bool) -> Result<(), Failed> {
        if write {
            let json = serde_json::to_string(&std::mem::take(&mut self.seen)).unwrap_or_else(|_| "[]".to_owned());
            let locks = self.ours(quote::literal(&json).map_err(PgError::from))?;
            let note = ledger::steps_done_sql(self.row, done, &format!("{locks}::jsonb"));
            let sql = match self.session.is_apart() {
                true => note,
                false => format!("BEGIN; {}; {note}; COMMIT", Setup::FOR_A_NOTE),
            };
            self.ours(self.session.keeper().batch("write the ledger", &sql).await)?;
        }
        self.kept = done;
        Ok(())
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

fn ends_transaction(kind: Kind) -> bool {
    matches!(kind, Kind::Commit | Kind::Rollback | Kind::OtherEnd)
}
