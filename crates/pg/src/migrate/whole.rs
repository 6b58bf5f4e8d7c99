//! A file in one transaction, with its row of the ledger: all of it or nothing.

use crate::error::PgError;
use crate::migrate::attempt::{Failed, copy, run_counting};
use crate::migrate::failure::Teller;
use crate::migrate::ledger;
use crate::migrate::report::Failure;
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::migrate::split::{Kind, Outer, Statement, blank_words};
use futures::join;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::SeenLock;
use std::ops::Range;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

/// The largest text sent as one message, but for a single statement that is larger. The server keeps all statements of
/// a message in memory at once, in a form that is many times as large.
const LARGEST_MESSAGE: usize = 512 * 1024;
/// One message's worth of a file.
enum Message {
    Sql { span: Range<usize>, first: usize },
    Copy { index: usize },
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
    /// One attempt; gives the locks that were seen.
    pub(crate) async fn run(&self, session: &Session, setup: &Setup) -> Result<Vec<SeenLock>, Failed> {
        let modes = self.outer.as_ref().map_or("", |outer| outer.modes.as_str());
        // Of the file's own BEGIN and COMMIT only white space is left, so that every place stays where it is.
        let blanked = self.outer.is_some().then(|| self.without_outer());
        let sql = blanked.as_deref().unwrap_or(self.sql);
        let messages = self.messages();
        match messages.as_slice() {
            // In one round trip. What is sent after a failure does nothing: the transaction has failed, and its COMMIT
            // rolls back. The first message cannot fail before its BEGIN, for there is nothing of the file in it.
            [Message::Sql { span, first }] if modes.is_empty() => {
                let begin = setup.begin("");
                let sent = &sql[span.clone()];
                let raw = session.client.raw();
                let (begun, ran, ended) =
                    join!(raw.batch_execute(&begin), run_counting(session, sent), self.end(session, setup));
                begun.map_err(|error| self.ours("begin the transaction", error))?;
                ran.map_err(|(error, done)| self.theirs(error, span.start, first + done))?;
                ended
            }
            _ => self.bit_by_bit(session, setup, modes, sql, &messages).await,
        }
    }

    async fn bit_by_bit(
        &self,
        session: &Session,
        setup: &Setup,
        modes: &str,
        sql: &str,
        messages: &[Message],
    ) -> Result<Vec<SeenLock>, Failed> {
        let raw = session.client.raw();
        let done = async {
            raw.batch_execute(&setup.begin(modes)).await.map_err(|error| self.ours("begin the transaction", error))?;
            for message in messages {
                match message {
                    Message::Sql { span, first } => run_counting(session, &sql[span.clone()])
                        .await
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
        self.end(session, setup).await
    }

    /// The ledger's row and the COMMIT, sent together.
    async fn end(&self, session: &Session, setup: &Setup) -> Result<Vec<SeenLock>, Failed> {
        let raw = session.client.raw();
        let key = self.file.key.as_str();
        let checksum = self.file.checksum.hex();
        let noted = async {
            match &session.note {
                // DEALLOCATE has taken it away.
                Some(note) if !self.deallocates() => raw.query(note, &[&key, &checksum, &setup.version]).await,
                _ => {
                    raw.query_typed(
                        ledger::NOTE,
                        &[(&key, Type::TEXT), (&checksum, Type::TEXT), (&setup.version, Type::TEXT)],
                    )
                    .await
                }
            }
        };
        let (own, noted, committed) = join!(raw.batch_execute(Setup::BACK), noted, raw.batch_execute("COMMIT"));
        own.map_err(|error| self.ours("become the ledger's role again", error))?;
        let rows: Vec<Row> = noted.map_err(|error| self.ours("write the ledger", error))?;
        committed.map_err(|error| self.ours("commit", error))?;
        Ok(rows.first().and_then(|row| row.get::<_, Option<&str>>(0)).map(ledger::locks).unwrap_or_default())
    }

    /// Whether it throws away what was prepared.
    pub(crate) fn deallocates(&self) -> bool {
        self.statements.iter().any(|statement| statement.kind == Kind::Deallocate)
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

    fn without_outer(&self) -> String {
        let mut sql = self.sql.to_owned();
        for statement in [self.statements.first(), self.statements.last()].into_iter().flatten() {
            blank_words(&mut sql, statement.span.clone());
        }
        sql
    }

    fn teller(&self) -> Teller<'_> {
        Teller { key: &self.file.key, sql: self.sql, statements: self.statements }
    }

    fn ours(&self, action: &'static str, error: Error) -> Failed {
        let error = PgError::query(action, error);
        self.failed(self.teller().plain(&error), error)
    }

    fn theirs(&self, error: Error, from: usize, index: usize) -> Failed {
        // What the outer BEGIN was is no statement that runs.
        let index = index + usize::from(self.outer.is_some());
        let error = PgError::query("run the file", error);
        self.failed(self.teller().server(&error, from, index), error)
    }

    fn failed(&self, mut failure: Failure, error: PgError) -> Failed {
        failure.aftermath = match failure.statement {
            Some(2..) => format!(
                "nothing of this file was kept: what its first {} statements did was rolled back",
                failure.statement.unwrap_or_default() - 1
            ),
            _ => "nothing of this file was kept".to_owned(),
        };
        Failed::new(failure, Some(error))
    }
}
