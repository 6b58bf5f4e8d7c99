//! Files that are sent before the answers to those before them are there, so that neither the server nor we wait for the
//! other between two files.
//!
//! That is done with plain files (`reach.rs`), one after the other, in a database where nobody has code of their own. They
//! leave the session as it is, so it is set up once for all of them. Each is one message that is as careful as any other
//! file's:
//!
//! - With its commit it gives the session a name that says how many files are done.
//! - It begins its own transaction, and runs nothing unless the session has the name of the file before: after a failure
//!   what was sent behind it is refused, whatever the failure was.
//! - The server tells such names in order with what else it says unasked, so that it is known whose that is.
//! - After a failure the session is put back, and the file is told of, or tried again, as every other one; so are those
//!   that were sent behind it, when it is their turn again.

use crate::error::PgError;
use crate::migrate::attempt::{Answers, send};
use crate::migrate::ledger;
use crate::migrate::reach::{Plain, calling_sql, code_sql};
use crate::migrate::session::{Prepared, Session, name_when_done};
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
/// How many plain files there have to be, one after the other, so that looking for code takes less time than it saves.
const FEWEST: usize = 5;

/// The files of a run, and which of them were sent.
pub(crate) struct Ahead<'a> {
    items: &'a [&'a Item<'a>],
    /// What is known of the files that were looked at so far; nothing of those that are not plain.
    known: Vec<Option<Known<'a>>>,
    /// Those without an answer, in their order.
    sent: VecDeque<Sent>,
    /// The index of the first of the files that the session is set up for; `None` while it is as it is between others.
    first: Option<usize>,
    /// Whether there is no use in trying.
    never: bool,
}

/// A plain file.
struct Known<'a> {
    plain: Plain,
    /// What is to be run.
    sql: Cow<'a, str>,
    /// What its row of the ledger is made of, as SQL.
    row: String,
}

/// A file on its way.
pub(crate) struct Sent {
    index: usize,
    pub(crate) plain: Plain,
    pub(crate) answers: Answers,
    pub(crate) head: Head,
    /// Of the last one: what is sent behind it, which puts the session back. Not in its message, for what comes there after
    /// the commit could fail, and the file be taken for one that has.
    pub(crate) back: Option<Answers>,
}

impl<'a> Ahead<'a> {
    /// For the files of a run, in their order. `never`: they run as others than the one who writes the ledger.
    pub(crate) fn new(items: &'a [&'a Item<'a>], never: bool) -> Self {
        Self { items, known: Vec::new(), sent: VecDeque::new(), first: None, never }
    }

    /// Sends the file whose turn it is, and those that can follow it, if they are plain. What goes wrong here is left for
    /// the file itself to run into. Gives whether it was sent.
    pub(crate) async fn send(&mut self, session: &Session, setup: &Setup, turn: usize) -> bool {
        if self.first.is_none() && self.sent.is_empty() {
            self.begin(session, setup, turn).await;
        }
        while let Some(first) = self.first
            && self.sent.len() < ON_THEIR_WAY
        {
            let index = self.sent.back().map_or(turn, |last| last.index + 1);
            // The next one's words are looked at while the server is at work.
            let is_last = self.known(setup, index + 1).is_none();
            let Some(plain) = self.known(setup, index).map(|known| known.plain) else { break };
            let (text, head) = self.message(session, index, index > first);
            let answers = send(session, &text).await;
            let back = if is_last { Some(send(session, Setup::LOOSE_BACK).await) } else { None };
            self.sent.push_back(Sent { index, plain, answers, head, back });
            if is_last {
                self.first = None;
            }
        }
        !self.sent.is_empty()
    }

    /// The file whose turn it is, if it was sent.
    pub(crate) fn take(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    /// Forgets what was sent, which the server refuses, and puts the session back.
    pub(crate) async fn give_up(&mut self, session: &Session) {
        self.sent.clear();
        self.first = None;
        // A lost session has taken its transaction with it.
        let _ = session.client.batch("roll back", "ROLLBACK").await;
        let _ = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
    }

    /// Sets the session up for plain files, if there are enough and nobody's code is in the database.
    async fn begin(&mut self, session: &Session, setup: &Setup, first: usize) {
        if self.never || (first..first + FEWEST).any(|index| self.known(setup, index).is_none()) {
            return;
        }
        let fit = match has_code(session).await {
            Ok(false) => set_up(session, setup).await,
            Ok(true) | Err(_) => {
                self.never = true;
                return;
            }
        };
        if fit.is_ok_and(|fit| fit) {
            self.first = Some(first);
        } else {
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

    /// All of a file in one message, which may follow one that has no answer yet.
    fn message(&self, session: &Session, index: usize, follows: bool) -> (String, Head) {
        let (Some(known), name) = (&self.known[index], session.note_name()) else { return Default::default() };
        let mut head = "BEGIN".to_owned();
        let mut statements = 1;
        if index + 1 == self.items.len() {
            // Nothing comes that would wait for the disk.
            head.push_str("; SET LOCAL synchronous_commit TO DEFAULT");
            statements += 1;
        }
        if follows {
            head.push_str(&format!("; EXECUTE {name}_turn ('{}')", name_when_done(index)));
            statements += 1;
        }
        head.push_str(";\n");
        let note = match known.plain {
            Plain { locks: false, .. } => "rows",
            Plain { makes: false, .. } => "looks",
            Plain { .. } => "looks_before",
        };
        let text = format!(
            "{head}{}\n;EXECUTE {name}_{note} ({}); SET application_name = '{}'; COMMIT",
            known.sql,
            known.row,
            name_when_done(index + 1)
        );
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
    let (key, version) = (quote::literal(file.key.as_str()).ok()?, quote::literal(version).ok()?);
    let row = format!("{key}, '{}', {version}", file.checksum);
    let sql = if outer.is_some() { Cow::Owned(without_outer(sql, &statements)) } else { Cow::Borrowed(sql) };
    Some(Known { plain, sql, row })
}

/// Whether somebody has code in the database, or keeps there what calls some.
async fn has_code(session: &Session) -> Result<bool, PgError> {
    let ask = async |sql: String| {
        let answer = session.client.first_value("look for code in the database", &format!("SELECT {sql}")).await;
        answer.map(|answer| answer.flatten().map(|answer| answer == "t"))
    };
    match ask(code_sql()).await? {
        Some(false) => Ok(ask(calling_sql()).await? != Some(false)),
        code => Ok(code.is_some()),
    }
}

/// Gives whether strings are what they are taken for here: without escapes.
async fn set_up(session: &Session, setup: &Setup) -> Result<bool, PgError> {
    let mut sql = setup.kept();
    let prepared = session.prepared();
    if !prepared.plain {
        let clear = if prepared.others { ledger::CLEAR } else { "" };
        sql.push_str(&format!("; {clear}{}", ledger::prepare_plain_sql(session.note_name())));
    }
    sql.push_str("; SELECT pg_catalog.current_setting('standard_conforming_strings')");
    let standard = session.client.first_value("set the session up for plain files", &sql).await?;
    session.set_prepared(Prepared { plain: true, others: false, ..prepared });
    Ok(standard.flatten().as_deref() == Some("on"))
}
