//! Files that are sent before the answers to those before them are there, so that neither the server nor we wait for the
//! other between two files.
//!
//! That is done with plain files (`reach.rs`), one after the other, in a database where nobody has code of their own. They
//! leave the session as it is, so it is set up once for all of them. Each is one message that is as careful as any other
//! file's:
//!
//! - It begins its own transaction, and runs nothing if the row of the file before it is not the newest one of the
//!   ledger: after a failure what was sent behind it is refused, whatever the failure was.
//! - Of all that are on their way at most one may make the server say something, so that it is known whose that is.
//! - After a failure the session is put back, and the file is told of, or tried again, as every other one; so are those
//!   that were sent behind it, when it is their turn again.

use crate::error::PgError;
use crate::migrate::attempt::{Answers, send};
use crate::migrate::ledger::{self, FIRST_OF_OTHERS};
use crate::migrate::reach::Plain;
use crate::migrate::session::{Prepared, Session};
use crate::migrate::setup::Setup;
use crate::migrate::split;
use crate::migrate::whole::{Head, LARGEST_MESSAGE, without_outer};
use crate::quote;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::Item;
use std::borrow::Cow;
use std::collections::VecDeque;

/// How many files are on their way at once.
const ON_THEIR_WAY: usize = 4;

/// The files of a run, and which of them were sent.
pub(crate) struct Ahead<'a> {
    items: &'a [&'a Item<'a>],
    /// What is known of the files that were looked at so far; nothing of those that are not plain.
    known: Vec<Option<Known<'a>>>,
    /// Those without an answer, in their order.
    sent: VecDeque<Sent>,
    /// What the session is set up for; `None` while it is as it is between other files.
    row: Option<Row>,
    /// Whether there is no use in trying.
    never: bool,
}

/// A plain file.
struct Known<'a> {
    plain: Plain,
    /// What is to be run.
    sql: Cow<'a, str>,
    /// Its key, and what its row of the ledger is made of, as SQL.
    key: String,
    row: String,
}

/// Plain files one after the other.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// The index of the first of them.
    first: usize,
    /// The number of the ledger's newest row before it.
    newest: i64,
}

/// A file on its way.
pub(crate) struct Sent {
    index: usize,
    pub(crate) plain: Plain,
    pub(crate) answers: Answers,
    pub(crate) head: Head,
}

impl<'a> Ahead<'a> {
    /// For the files of a run, in their order. `never`: they run as others than the one who writes the ledger.
    pub(crate) fn new(items: &'a [&'a Item<'a>], never: bool) -> Self {
        Self { items, known: Vec::new(), sent: VecDeque::new(), row: None, never }
    }

    /// Sends the file whose turn it is, and those that can follow it, if they are plain. What goes wrong here is left for
    /// the file itself to run into. Gives whether it was sent.
    pub(crate) async fn send(&mut self, session: &Session, setup: &Setup, turn: usize) -> bool {
        if self.row.is_none() && self.sent.is_empty() {
            self.begin(session, setup, turn).await;
        }
        while let Some(row) = self.row
            && self.sent.len() < ON_THEIR_WAY
        {
            let index = self.sent.back().map_or(turn, |last| last.index + 1);
            // The next one's words are looked at while the server is at work.
            let is_last = self.known(setup, index + 1).is_none();
            let Some(plain) = self.known(setup, index).map(|known| known.plain) else { break };
            if plain.talks && self.somebody_talks() {
                break;
            }
            let (text, head) = self.message(session, row, index, is_last);
            let answers = send(session, &text).await;
            self.sent.push_back(Sent { index, plain, answers, head });
            if is_last {
                // Its message puts the session back.
                self.row = None;
            }
        }
        !self.sent.is_empty()
    }

    /// The file whose turn it is, if it was sent.
    pub(crate) fn take(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    /// Whether what the server says is about a file that is on its way, and not about the one whose turn it is.
    pub(crate) fn somebody_talks(&self) -> bool {
        self.sent.iter().any(|sent| sent.plain.talks)
    }

    /// Forgets what was sent, which the server refuses, and puts the session back.
    pub(crate) async fn give_up(&mut self, session: &Session) {
        self.sent.clear();
        self.row = None;
        // A lost session has taken its transaction with it.
        let _ = session.client.batch("roll back", "ROLLBACK").await;
        let _ = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
    }

    /// Sets the session up for plain files, if there are some and nobody's code is in the database.
    async fn begin(&mut self, session: &Session, setup: &Setup, first: usize) {
        if self.never || self.known(setup, first).is_none() || self.known(setup, first + 1).is_none() {
            return;
        }
        match newest_row(session).await {
            Ok(Some(newest)) => self.row = Some(Row { first, newest }),
            Ok(None) | Err(_) => self.never = true,
        }
        if self.row.is_some() && set_up(session, setup).await.is_err() {
            self.never = true;
            self.give_up(session).await;
        }
    }

    /// What is known of a file, if it is a plain one.
    fn known(&mut self, setup: &Setup, index: usize) -> Option<&Known<'a>> {
        while self.known.len() <= index
            && let Some(item) = self.items.get(self.known.len())
        {
            self.known.push(look_at(item.file, &setup.version));
        }
        self.known.get(index)?.as_ref()
    }

    /// All of a file in one message.
    fn message(&self, session: &Session, row: Row, index: usize, is_last: bool) -> (String, Head) {
        let (Some(known), name) = (&self.known[index], session.note_name()) else { return Default::default() };
        let mut head = "BEGIN".to_owned();
        let mut statements = 1;
        if index + 1 == self.items.len() {
            // Nothing comes that would wait for the disk.
            head.push_str("; SET LOCAL synchronous_commit TO DEFAULT");
            statements += 1;
        }
        if index > row.first
            && let Some(before) = &self.known[index - 1]
        {
            head.push_str(&format!("; EXECUTE {name}_turn ({}, {})", before.key, row.newest));
            statements += 1;
        }
        head.push_str(";\n");
        let note = match known.plain {
            Plain { locks: false, .. } => "rows",
            Plain { makes: false, .. } => "looks",
            Plain { .. } => "looks_before",
        };
        let back = if is_last { Setup::LOOSE_BACK } else { "" };
        let text = format!("{head}{}\n;EXECUTE {name}_{note} {}; COMMIT; {back}", known.sql, known.row);
        (text, Head { statements, characters: head.chars().count() })
    }
}

fn look_at<'a>(file: &'a File, version: &str) -> Option<Known<'a>> {
    let content = file.content.as_ref().ok()?;
    let sql = content.sql.as_str();
    if content.directives.no_transaction || sql.len() > LARGEST_MESSAGE {
        return None;
    }
    let statements = split::split(sql).ok()?;
    let outer = split::outer(sql, &statements);
    let plain = Plain::of(sql, &statements, outer.as_ref())?;
    let key = quote::literal(file.key.as_str()).ok()?;
    let row = format!("({key}, '{}', {})", file.checksum, quote::literal(version).ok()?);
    let sql = if outer.is_some() { Cow::Owned(without_outer(sql, &statements)) } else { Cow::Borrowed(sql) };
    Some(Known { plain, sql, key, row })
}

/// The number of the ledger's newest row; `None` where there is code of anybody's in the database: functions, operators, or
/// rules that are no views.
async fn newest_row(session: &Session) -> Result<Option<i64>, PgError> {
    let sql = format!(
        "SELECT (SELECT coalesce(pg_catalog.max(m.id), 0) FROM pgdb.migrations m)::text \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid >= {FIRST_OF_OTHERS}) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oid >= {FIRST_OF_OTHERS}) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.oid >= {FIRST_OF_OTHERS} AND r.rulename <> '_RETURN')"
    );
    let newest = session.client.first_value("look for code in the database", &sql).await?;
    Ok(newest.flatten().and_then(|number| number.parse().ok()))
}

async fn set_up(session: &Session, setup: &Setup) -> Result<(), PgError> {
    let mut sql = setup.kept();
    let prepared = session.prepared();
    if !prepared.plain {
        let clear = if prepared.others { ledger::CLEAR } else { "" };
        sql.push_str(&format!("; {clear}{}", ledger::prepare_plain_sql(session.note_name())));
    }
    session.client.batch("set the session up for plain files", &sql).await?;
    session.set_prepared(Prepared { plain: true, others: false, ..prepared });
    Ok(())
}
