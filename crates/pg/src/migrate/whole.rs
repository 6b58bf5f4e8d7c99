//! A file in one transaction, with its row of the ledger: all of it or nothing.

use crate::error::PgError;
use crate::migrate::ahead::Refused;
use crate::migrate::attempt::{Failed, Noted, column, copy, run_counting};
use crate::migrate::failure::Teller;
use crate::migrate::ledger;
use crate::migrate::mark::{self, NewRow};
use crate::migrate::note;
use crate::migrate::report::Failure;
use crate::migrate::run::milliseconds;
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{Kind, Outer, Statement, blank_words};
use crate::migrate::watch::{LONG, watched};
use crate::quote;
use futures::join;
use pgdb_core::migration::file::File;
use std::ops::Range;
use std::slice;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};

/// The largest text sent as one message, but for a single statement that is larger. The server keeps all statements of
/// a message in memory at once, in a form that is many times as large.
pub(crate) const LARGEST_MESSAGE: usize = 512 * 1024;
/// How PostgreSQL calls what somebody does to a statement: a cancel, a shutdown.
const INTERVENED: &str = "57";
/// What PostgreSQL says of an EXECUTE of what is not prepared.
const NOT_PREPARED: &str = "26000";

/// One message's worth of a file.
enum Message {
    Sql { span: Range<usize>, first: usize },
    Copy { index: usize },
}

/// What stands before a file in its message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    /// In statements.
    pub(crate) statements: usize,
    /// In characters.
    pub(crate) characters: usize,
}

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) file: &'a File,
    pub(crate) sql: &'a str,
    pub(crate) statements: &'a [Statement],
    pub(crate) outer: Option<Outer>,
}

impl Whole<'_> {
    /// One attempt. Of one that was sent ahead and has failed, `sent` says how.
    pub(crate) async fn run(&self, session: &Session, setup: &Setup, sent: Option<Refused>) -> Result<Noted, Failed> {
        let modes = self.outer.as_ref().map_or("", |outer| outer.modes.as_str());
        let blanked = self.outer.is_some().then(|| without_outer(self.sql, self.statements));
        let sql = blanked.as_deref().unwrap_or(self.sql);
        let messages = self.messages();
        let one = matches!(messages.as_slice(), [Message::Sql { .. }]);
        let can_note = session.is_apart() || session.prepared().note;
        let failed = sent.and_then(|Refused { error, done, head }| self.failed_at_once(session, error, done, head));
        let running = async {
            let outcome = match failed {
                Some(failed) => Some(Err(failed)),
                None if one && modes.is_empty() && !self.prepares() && can_note => {
                    self.at_once(session, setup, sql).await
                }
                None => None,
            };
            match outcome {
                Some(outcome) => outcome,
                None => self.bit_by_bit(session, setup, modes, sql, &messages).await,
            }
        };
        let (outcome, sights) = watched(session, LONG, running).await;
        let mut noted = outcome?;
        if sights.shorten(&mut noted.locks)
            && let Ok(sql) = note::correct_sql(slice::from_ref(&noted))
        {
            // If it cannot be done the row says no more than the file took.
            let _ = session.keeper().batch("write the ledger", &sql).await;
        }
        Ok(noted)
    }

    /// Begin, file, ledger and commit as one message. PostgreSQL reads a message as a whole before it runs anything of
    /// it, and stops at the first failure: whatever the file is, it is not run without what stands around it.
    ///
    /// `None`: nothing was done, or nothing was kept through no fault of the file's, and it is to be run bit by bit.
    async fn at_once(&self, session: &Session, setup: &Setup, sql: &str) -> Option<Result<Noted, Failed>> {
        let (begin, statements) = setup.begin("");
        let begin = format!("{begin};\n");
        let end = match session.is_apart() {
            true => mark::WHICH.to_owned(),
            false => match self.end_sql(session, setup) {
                Ok(end) => end,
                Err(error) => return Some(Err(self.failed_ours(error))),
            },
        };
        let begun = Instant::now();
        // The file may end with a comment, or without its last semicolon.
        match run_counting(session, &format!("{begin}{sql}\n;{end}")).await {
            Ok(last) if session.is_apart() => {
                let xid = last.as_ref().and_then(|row| column(row, 0));
                Some(self.end_apart(session, setup, xid, begun).await)
            }
            Ok(last) => Some(Ok(last.as_ref().map(Noted::from).unwrap_or_default())),
            Err((error, done)) => {
                // A lost session has taken its transaction with it.
                let _ = session.client.batch("roll back", "ROLLBACK").await;
                let head = Head { statements, characters: begin.chars().count() };
                let error = PgError::query("run the file", error);
                self.failed_at_once(session, error, done, head).map(Err)
            }
        }
    }

    /// What the failure of a message means: so many statements of it were done.
    fn failed_at_once(&self, session: &Session, error: PgError, done: usize, head: Head) -> Option<Failed> {
        let ran = done.checked_sub(head.statements).filter(|index| *index < self.to_run());
        match (ran, error.sqlstate()) {
            // Not even the first statement: the message as a whole could not be read, maybe for another file in it. By
            // itself PostgreSQL tells better what is wrong with a file.
            (None, Some(code)) if done == 0 && !code.starts_with(INTERVENED) => None,
            // Something has thrown away what was prepared.
            (None, Some(NOT_PREPARED)) => {
                session.forget_prepared();
                None
            }
            // Something has given the session another name, or somebody has made code meanwhile.
            (None, _) if error.server().is_some_and(|server| server.message.contains(note::NOT_ITS_TURN)) => None,
            (Some(index), _) => Some(self.failed_theirs(error, 0, head.characters, index)),
            (None, _) => Some(self.failed_ours(error)),
        }
    }

    /// What stands behind the file in its message.
    fn end_sql(&self, session: &Session, setup: &Setup) -> Result<String, PgError> {
        let key = self.file.key.as_str();
        Ok(format!(
            "{}; EXECUTE {} ({}, '{}', {}); COMMIT",
            setup.back(),
            session.note_name(),
            quote::literal(key)?,
            self.file.checksum,
            quote::literal(&setup.version)?,
        ))
    }

    /// How many statements are run.
    fn to_run(&self) -> usize {
        self.statements.len() - if self.outer.is_some() { 2 } else { 0 }
    }

    async fn bit_by_bit(
        &self,
        session: &Session,
        setup: &Setup,
        modes: &str,
        sql: &str,
        messages: &[Message],
    ) -> Result<Noted, Failed> {
        let raw = session.client.raw();
        let begun = Instant::now();
        let done = async {
            raw.batch_execute(&setup.begin(modes).0)
                .await
                .map_err(|error| self.ours("begin the transaction", error))?;
            for message in messages {
                match message {
                    Message::Sql { span, first } => run_counting(session, &sql[span.clone()])
                        .await
                        .map(drop)
                        .map_err(|(error, done)| self.theirs(error, span.start, first + done))?,
                    Message::Copy { index } => {
                        let statement = &self.statements[*index];
                        let copied = copy(session, self.sql, statement).await;
                        copied.map_err(|error| self.theirs(error, statement.span.start, *index))?;
                    }
                }
            }
            Ok(())
        };
        if let Err(failed) = done.await {
            // A lost session has taken its transaction with it.
            let _ = raw.batch_execute("ROLLBACK").await;
            return Err(failed);
        }
        if !session.is_apart() {
            return self.end(session, setup).await;
        }
        let asked = session.client.first_value("ask for the transaction", mark::WHICH).await;
        let xid = asked.map_err(|error| self.failed_ours(error))?;
        self.end_apart(session, setup, xid.flatten().as_deref(), begun).await
    }

    /// The ledger's row and the COMMIT, in a session each.
    async fn end_apart(
        &self,
        session: &Session,
        setup: &Setup,
        xid: Option<&str>,
        begun: Instant,
    ) -> Result<Noted, Failed> {
        let row = NewRow {
            key: self.file.key.as_str(),
            checksum: self.file.checksum,
            version: &setup.version,
            took_ms: milliseconds(begun),
        };
        let done = mark::commit_file(session, row, xid.unwrap_or_default()).await;
        if done.is_err() {
            // It may not have come to its COMMIT; a lost session has taken its transaction with it.
            let _ = session.client.batch("roll back", "ROLLBACK").await;
        }
        done.map_err(|error| self.failed_ours(error))
    }

    /// The ledger's row and the COMMIT, sent together.
    async fn end(&self, session: &Session, setup: &Setup) -> Result<Noted, Failed> {
        let raw = session.client.raw();
        let key = self.file.key.as_str();
        let checksum = self.file.checksum.hex();
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key, Type::TEXT), (&checksum, Type::TEXT), (&setup.version, Type::TEXT)];
        let sql = note::note_sql();
        let noted = raw.query_typed_one(&sql, &params);
        let back = setup.back();
        let (own, noted, committed) = join!(raw.batch_execute(&back), noted, raw.batch_execute("COMMIT"));
        own.map_err(|error| self.ours("become the ledger's role again", error))?;
        let row = noted.map_err(|error| self.ours("write the ledger", error))?;
        committed.map_err(|error| self.ours("commit", error))?;
        let locks = row.get::<_, Option<&str>>(1).map(ledger::locks).unwrap_or_default();
        Ok(Noted { id: row.get(0), locks, took_ms: None })
    }

    /// Whether it changes what is prepared in the session.
    pub(crate) fn prepares(&self) -> bool {
        self.statements.iter().any(|statement| statement.kind == Kind::Prepared)
    }

    fn messages(&self) -> Vec<Message> {
        let copies = self.statements.iter().any(|statement| statement.kind == Kind::CopyFromStdin);
        if !copies && self.sql.len() <= LARGEST_MESSAGE {
            return vec![Message::Sql { span: 0..self.sql.len(), first: 0 }];
        }
        let mut messages = Vec::new();
        for (index, statement) in self.statements.iter().enumerate() {
            if statement.kind == Kind::CopyFromStdin {
                messages.push(Message::Copy { index });
                continue;
            }
            match messages.last_mut() {
                Some(Message::Sql { span, .. }) if statement.span.end - span.start <= LARGEST_MESSAGE => {
                    span.end = statement.span.end;
                }
                _ => messages.push(Message::Sql { span: statement.span.clone(), first: index }),
            }
        }
        messages
    }

    fn teller(&self) -> Teller<'_> {
        Teller { key: &self.file.key, sql: self.sql, statements: self.statements }
    }

    fn ours(&self, action: &'static str, error: Error) -> Failed {
        self.failed_ours(PgError::query(action, error))
    }

    fn failed_ours(&self, error: PgError) -> Failed {
        self.failed(self.teller().plain(&error), error)
    }

    fn theirs(&self, error: Error, from: usize, index: usize) -> Failed {
        self.failed_theirs(PgError::query("run the file", error), from, 0, index)
    }

    /// `before` is how many characters stood in the message before the file's own, which begin at its byte `from`.
    fn failed_theirs(&self, error: PgError, from: usize, before: usize, index: usize) -> Failed {
        // What the outer BEGIN was is no statement that runs.
        let index = index + usize::from(self.outer.is_some());
        self.failed(self.teller().server(&error, from, before, index), error)
    }

    fn failed(&self, mut failure: Failure, error: PgError) -> Failed {
        let done = match failure.statement {
            Some(2) => ": what its first statement did was rolled back".to_owned(),
            Some(failed @ 3..) => format!(": what its first {} statements did was rolled back", failed - 1),
            _ => String::new(),
        };
        failure.aftermath = format!("nothing of this file was kept{done}");
        Failed::new(failure, Some(error))
    }
}

/// The text without its first and its last statement. Only white space is left of them, so that every place stays where it
/// is.
pub(crate) fn without_outer(sql: &str, statements: &[Statement]) -> String {
    let mut sql = sql.to_owned();
    for statement in [statements.first(), statements.last()].into_iter().flatten() {
        blank_words(&mut sql, statement.span.clone());
    }
    sql
}
