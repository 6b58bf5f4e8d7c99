//! Why a file failed, put together from what the server said and what we know of the file.

use crate::error::PgError;
use crate::migrate::report::Failure;
use crate::migrate::split::{SplitError, Statement};
use crate::migrate::{lock, note, place};
use pgdb_core::migration::key::Key;
use std::error::Error as _;

/// Tells about one file's failures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller<'a> {
    pub(crate) key: &'a Key,
    /// The text that was cut up.
    pub(crate) sql: &'a str,
    pub(crate) statements: &'a [Statement],
}

impl Teller<'_> {
    /// The server refused something that was sent from the file: the text from byte `from` on, behind so many
    /// characters that are none of it. The statement `index` (from 0) was the one at work.
    pub(crate) fn server(&self, error: &PgError, from: usize, before: usize, index: usize) -> Failure {
        let mut failure = self.plain(error);
        let position = error.server().and_then(|server| server.position);
        let position = position.map(|position| position.saturating_sub(u32::try_from(before).unwrap_or(u32::MAX)));
        let at = position.map(|position| from + place::byte_of_character(&self.sql[from..], position));
        // A position says which statement it was more surely than counting does: a mistake of grammar is found before
        // anything is run.
        let index = at.and_then(|at| self.index_at(at)).unwrap_or(index);
        failure.statement = (index < self.statements.len()).then_some(index + 1);
        let statement = self.statements.get(index);
        let row = statement.and_then(|statement| self.row_of_data(statement, failure.context.as_deref()?));
        let begin = row.or(statement.map(|statement| statement.span.start));
        match (at, begin) {
            (Some(at), _) => self.put(&mut failure, at, true),
            (None, Some(begin)) => self.put(&mut failure, begin, false),
            (None, None) => {}
        }
        failure
    }

    /// Where in the file the line of a COPY's data begins that the server names, as `COPY orders, line 2` among other lines.
    /// A server that speaks another language names none.
    fn row_of_data(&self, statement: &Statement, context: &str) -> Option<usize> {
        let data = statement.data.clone()?;
        let told = context.lines().find_map(|line| line.strip_prefix("COPY ")?.split_once(", line "))?.1;
        let number: usize = told[..told.find(|c: char| !c.is_ascii_digit()).unwrap_or(told.len())].parse().ok()?;
        let before: usize =
            self.sql[data.clone()].split_inclusive('\n').take(number.checked_sub(1)?).map(str::len).sum();
        Some(data.start + before).filter(|at| *at < data.end)
    }

    /// The server refused something of ours: the begin, the ledger's row, the end.
    pub(crate) fn plain(&self, error: &PgError) -> Failure {
        let mut failure = Failure { key: self.key.to_string(), ..Failure::default() };
        match error.server() {
            Some(server) => {
                failure.sqlstate = Some(server.sqlstate.clone());
                failure.message.clone_from(&server.message);
                failure.detail.clone_from(&server.detail);
                failure.hint =
                    server.hint.clone().or_else(|| advice(&server.sqlstate, &server.message).map(str::to_owned));
                failure.context.clone_from(&server.context);
                if [lock::LOST, note::NOT_NOTED].iter().any(|ours| server.message.contains(ours)) {
                    let message = "the file could not be noted in the ledger: it gave up the lock that keeps other \
                         migrators out, or put something in the place of what pgdb had prepared";
                    message.clone_into(&mut failure.message);
                    failure.hint = Some("take pg_advisory_unlock_all, DISCARD ALL and pgdb_note out of it".to_owned());
                }
            }
            None => {
                let mut message = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    message = format!("{message}: {cause}");
                    source = cause.source();
                }
                failure.message = message;
            }
        }
        failure
    }

    /// The file cannot be run at all.
    pub(crate) fn unfit(&self, error: &SplitError) -> Failure {
        let mut failure = self.at(error.at(), error.to_string());
        "nothing of this file was run".clone_into(&mut failure.aftermath);
        failure
    }

    /// Something that we found ourselves.
    pub(crate) fn at(&self, offset: usize, message: String) -> Failure {
        let mut failure = Failure { key: self.key.to_string(), message, ..Failure::default() };
        failure.statement = self.index_at(offset).map(|index| index + 1);
        self.put(&mut failure, offset, true);
        failure
    }

    fn index_at(&self, offset: usize) -> Option<usize> {
        // At the end of the text the last statement is meant.
        self.statements.iter().rposition(|statement| statement.span.start <= offset)
    }

    fn put(&self, failure: &mut Failure, offset: usize, exact: bool) {
        let place = place::of_byte(self.sql, offset);
        failure.line = Some(place.line);
        failure.source = Some(place.source);
        if exact {
            failure.column = Some(place.column);
            failure.caret = Some(place.caret);
        }
    }
}

/// What to do about `DISCARD ALL`.
pub(crate) const NO_DISCARD: &str = "take it out: what a file leaves in its session is put back anyway";

/// What a migration's author can do about it, where PostgreSQL does not say so itself.
fn advice(sqlstate: &str, message: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "25001" if message.contains("DISCARD ALL") => NO_DISCARD,
        "25001" => "put the line `-- pgdb: no-transaction` first in the file; best in a file with nothing else",
        "55P04" => "a new value of an enum can be used once it is committed: use it in a later file",
        "55P03" => "somebody else holds the lock; --lock-timeout and --lock-retries say how long to try",
        "25006" => "this server takes no changes: it is a standby, or default_transaction_read_only is on",
        "3F000" => "the schema has to be made by an earlier file, or by this one: CREATE SCHEMA IF NOT EXISTS …",
        _ => return None,
    })
}

/// Whether it may go well a moment later: a lock that could not be had, a deadlock, a serialization failure.
pub(crate) fn may_pass(error: &PgError) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "40P01" | "40001"))
}
