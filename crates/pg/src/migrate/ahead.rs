//! Files that are sent before the answers to those before them are there, so that neither the server nor we wait for the
//! other between two files.
//!
//! That is done with plain files (`reach.rs`), one after the other, in a database where nobody has code of their own. They
//! leave the session as it is, so it is set up once for all of them. Each is a transaction with its row of the ledger, as
//! any other file. Where nothing can tell the time, several of them are one message, as many as take no time that anybody
//! notices: what is one message has one `now()`.
//!
//! - The server does nothing more of a message after a failure.
//! - With its last commit a message gives the session a name that says how many files are done, and the next one does
//!   nothing unless it finds that name: after a failure what was sent behind it is refused, whatever the failure was.
//! - What the server says unasked is heard in turn with its answers, so that it is known whose it is.
//! - After a failure the session is put back, and the file is told of, or tried again, as every other one; so are those
//!   that were sent behind it, when it is their turn again.

use crate::connect::{APPLICATION_NAME, Hears};
use crate::error::PgError;
use crate::migrate::attempt::{Answers, Noted, count, read_noted, send};
use crate::migrate::note;
use crate::migrate::reach::{Kept, Plain, code_sql, kept_sql};
use crate::migrate::session::{Prepared, Session};
use crate::migrate::setup::Setup;
use crate::migrate::split;
use crate::migrate::watch::{LONG, Sights, watched};
use crate::migrate::whole::{Head, LARGEST_MESSAGE, without_outer};
use crate::quote;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::Item;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::time::Duration;
use tokio::time::Instant;

/// How many messages are on their way at least.
const MESSAGES: usize = 2;
/// How many files a message has at most.
const FILES: usize = 16;
/// How many files are on their way at least.
const ON_THEIR_WAY: usize = 4;
/// How long a message of several files is to take, as far as those before it tell: its answers come at its end.
const MESSAGE_TAKES: Duration = Duration::from_millis(5);
/// What a message took that is not worth to be told apart by files, in milliseconds.
const AT_ONCE_MS: u64 = 10;
/// How many plain files there have to be, one after the other, so that looking for code takes less time than it saves.
const FEWEST: usize = 5;

/// The files of a run, and which of them were sent.
pub(crate) struct Ahead<'a> {
    items: &'a [&'a Item<'a>],
    /// What is known of the files that were looked at so far; nothing of those that are not plain.
    known: Vec<Option<Known<'a>>>,
    /// Those without all of their answers, in their order.
    sent: VecDeque<Message>,
    /// Whether the session is set up for plain files, and more of them follow those that were sent.
    goes_on: bool,
    /// Whether something that is kept in the database can tell the time.
    tells_time: bool,
    /// How many files the next message may have.
    files: usize,
    /// When the last message was done.
    done: Instant,
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

/// A message on its way.
struct Message {
    at: Instant,
    answers: Answers,
    /// What stands before each file without an answer.
    heads: VecDeque<Head>,
    /// How many files it had, and the index of the one after the last of them.
    files: usize,
    end: usize,
    took: Took,
    /// Whether it prepares what few files need, and that is not known to be done yet.
    prepares: bool,
    /// Behind the last one: what puts the session back. Not in its message, for what comes there after the commit could
    /// fail, and the file be taken for one that has.
    back: Option<Answers>,
}

/// How a file has failed that was sent ahead.
pub(crate) struct Refused {
    pub(crate) error: PgError,
    /// How many statements of its message were done since the file before it.
    pub(crate) done: usize,
    /// What stood before it.
    pub(crate) head: Head,
}

/// How long the files of a message took, of which the server counts from its begin.
#[derive(Default)]
struct Took {
    /// Those that have their answers, each with its own time.
    files: Vec<Noted>,
    /// How long they took together, in milliseconds.
    ms: u64,
    /// Whether one has held a lock for less long than it took.
    shorter: bool,
}

impl Took {
    /// Takes note of one more file, and corrects what is known of it with what was seen while it was waited for.
    fn add(&mut self, noted: &mut Noted, sights: &Sights) {
        let Some(end) = noted.took_ms else { return };
        let took = end.saturating_sub(self.ms);
        self.ms = end;
        noted.took_ms = Some(took);
        for lock in &mut noted.locks {
            lock.held_ms = lock.held_ms.min(i64::try_from(took).unwrap_or(i64::MAX));
        }
        self.shorter |= sights.shorten(&mut noted.locks);
        self.files.push(noted.clone());
    }

    /// Has the rows say the same, where that makes a difference. Nobody waits for it.
    async fn correct_rows(&self, session: &Session) {
        if (self.files.len() > 1 && self.ms > AT_ONCE_MS) || self.shorter {
            // If it cannot be done the rows say no more than the message took.
            if let Ok(sql) = note::correct_sql(&self.files) {
                let _ = send(session, &sql).await;
            }
        }
    }
}

impl<'a> Ahead<'a> {
    /// For the files of a run, in their order. `never`: they run as others than the one who writes the ledger.
    pub(crate) fn new(items: &'a [&'a Item<'a>], never: bool) -> Self {
        let (known, sent) = (Vec::new(), VecDeque::new());
        Self { items, known, sent, goes_on: false, tells_time: true, files: 1, done: Instant::now(), never }
    }

    /// Sends the file whose turn it is, and those that can follow it, if they are plain. What goes wrong here is left for
    /// the file itself to run into. Gives whether it was sent.
    pub(crate) async fn send(&mut self, session: &Session, setup: &Setup, turn: usize) -> bool {
        if !self.goes_on && self.sent.is_empty() {
            self.begin(session, setup, turn).await;
        }
        while self.goes_on
            && (self.sent.len() < MESSAGES
                || self.sent.iter().map(|message| message.heads.len()).sum::<usize>() < ON_THEIR_WAY)
        {
            let begin = self.sent.back().map_or(turn, |last| last.end);
            let (text, heads, prepares) = self.message(session, setup, begin);
            let (files, end) = (heads.len(), begin + heads.len());
            let answers = send(session, &text).await;
            // The next one's words are looked at while the server is at work.
            let is_last = self.known(setup, end).is_none();
            let back = if is_last { send(session, Setup::LOOSE_BACK).await.ok() } else { None };
            let Ok(answers) = answers else {
                // There is no session any more; what is on its way may have its answers all the same.
                self.goes_on = false;
                self.never = true;
                break;
            };
            self.sent.push_back(Message {
                at: Instant::now(),
                answers,
                heads,
                files,
                end,
                took: Took::default(),
                prepares,
                back,
            });
            self.goes_on = !is_last;
        }
        !self.sent.is_empty()
    }

    /// What the server answers to the file whose turn it is, if it was sent. After a failure nothing is on its way.
    pub(crate) async fn answer(&mut self, session: &Session) -> Option<Result<Noted, Refused>> {
        let message = self.sent.front_mut()?;
        let head = message.heads.pop_front()?;
        let is_last = message.heads.is_empty();
        let reading = read_noted(&mut message.answers, session.note_name());
        let (outcome, sights) = watched(session, LONG, reading).await;
        let outcome = outcome.map_err(|(error, done)| (PgError::query("run the file", error), done));
        if message.prepares && outcome.as_ref().err().is_none_or(|(_, done)| *done > 0) {
            message.prepares = false;
            session.set_prepared(Prepared { look_before: true, ..session.prepared() });
        }
        match outcome.and_then(|noted| noted.ok_or((PgError::TransactionEnded, 0))) {
            Ok(mut noted) => {
                message.took.add(&mut noted, &sights);
                if is_last {
                    self.end_message(session).await;
                }
                Some(Ok(noted))
            }
            Err((error, done)) => {
                self.give_up(session).await;
                Some(Err(Refused { error, done, head }))
            }
        }
    }

    /// Goes on with the next message. All files of this one are applied, whatever is answered now.
    async fn end_message(&mut self, session: &Session) {
        let Some(mut message) = self.sent.pop_front() else { return };
        message.took.correct_rows(session).await;
        let took = self.done.max(message.at).elapsed();
        self.done = Instant::now();
        let fit = MESSAGE_TAKES.as_nanos() * message.files as u128 / took.as_nanos().max(1);
        self.files = usize::try_from(fit).unwrap_or(FILES).clamp(1, FILES.min(2 * message.files));
        // What is wrong with the session is told by the next answer.
        let _ = count(&mut message.answers).await;
        if self.sent.is_empty() && !self.goes_on {
            session.set_hearing(Hears::Anytime);
            let is_back = match &mut message.back {
                Some(back) => count(back).await.is_ok(),
                None => false,
            };
            if !is_back {
                self.give_up(session).await;
            }
        }
    }

    /// Forgets what was sent, which the server refuses, and puts the session back.
    async fn give_up(&mut self, session: &Session) {
        // Nothing that has unread answers is kept: the driver would wait for somebody to read them.
        let took = self.sent.pop_front().map(|message| message.took);
        self.sent.clear();
        self.goes_on = false;
        self.files = 1;
        // What is said of what is refused is said again when it is run.
        session.set_hearing(Hears::Nothing);
        // A lost session has taken its transaction with it.
        let _ = session.client.batch("roll back", "ROLLBACK").await;
        let _ = session.client.batch("set the session back", Setup::LOOSE_BACK).await;
        session.set_hearing(Hears::Anytime);
        if let Some(took) = took {
            took.correct_rows(session).await;
        }
    }

    /// Sets the session up for plain files, if there are enough and nobody's code is in the database.
    async fn begin(&mut self, session: &Session, setup: &Setup, first: usize) {
        if self.never || (first..first + FEWEST).any(|index| self.known(setup, index).is_none()) {
            return;
        }
        let Ok(kept @ (Kept::Nothing | Kept::TellsTime)) = look_into(session).await else {
            self.never = true;
            return;
        };
        if set_up(session, setup, &name_when_done(first)).await.is_ok_and(|fit| fit) {
            self.goes_on = true;
            self.tells_time = kept == Kept::TellsTime;
            session.set_hearing(Hears::InTurn);
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

    /// As many files from `begin` on as go into a message, what stands before each of them, and whether it prepares what few
    /// of them need. It may follow one that has no answer yet.
    fn message(&mut self, session: &Session, setup: &Setup, begin: usize) -> (String, VecDeque<Head>, bool) {
        let end = self.end_of_message(setup, begin);
        let (name, its_turn) = (session.note_name(), name_when_done(begin));
        let (mut text, mut heads) = (String::new(), VecDeque::new());
        let mut statements = 1;
        let files = &self.known[begin..end];
        let looks_before = |known: &Known<'_>| known.plain.locks && known.plain.makes;
        let is_prepared = session.prepared().look_before || self.sent.iter().any(|message| message.prepares);
        let prepares = !is_prepared && files.iter().flatten().any(looks_before);
        if prepares {
            text.push_str(&format!("{};\n", note::prepare_look_before_sql(name)));
            statements += 1;
        }
        text.push_str("BEGIN; ");
        for (index, known) in (begin..end).zip(files) {
            let Some(Known { plain, sql, row }) = known else { break };
            statements += 1;
            let turn = if index == begin { "first" } else { "turn" };
            text.push_str(&format!("EXECUTE {name}_{turn} ('{its_turn}'); "));
            if index + 1 == self.items.len() {
                // Nothing comes that would wait for the disk.
                text.push_str("SET LOCAL synchronous_commit TO DEFAULT; ");
                statements += 1;
            }
            heads.push_back(Head { statements: mem::take(&mut statements), characters: text.chars().count() });
            // The file may end with a comment, or without its last semicolon.
            text.push_str(sql);
            text.push_str("\n; ");
            let note = match plain {
                Plain { locks: false, .. } => "rows",
                Plain { makes: false, .. } => "looks",
                Plain { .. } => "looks_before",
            };
            if index + 1 < end {
                text.push_str(&format!("EXECUTE {name}_{note} ({row}); COMMIT AND CHAIN;\n"));
            } else {
                let done = name_when_done(end);
                text.push_str(&format!("SET application_name = '{done}'; EXECUTE {name}_{note} ({row}); COMMIT"));
            }
        }
        (text, heads, prepares)
    }

    /// The index of the file after the last one that goes into a message.
    fn end_of_message(&mut self, setup: &Setup, begin: usize) -> usize {
        let (mut end, mut length) = (begin, 0);
        while end - begin < self.files
            && let Some(Known { plain, sql, .. }) = self.known(setup, end)
        {
            let plain = *plain;
            length += sql.len();
            let goes_alone = self.tells_time || plain.tells_time || plain.is_long || length > LARGEST_MESSAGE;
            if goes_alone && end > begin {
                break;
            }
            // What it makes may tell the time later.
            self.tells_time |= plain.tells_time;
            end += 1;
        }
        end
    }
}

/// What a session calls itself when so many files of a run are done, of those that are sent ahead: for the next message,
/// and for others to see.
fn name_when_done(files: usize) -> String {
    format!("{APPLICATION_NAME} (files done: {files})")
}

fn look_at<'a>(file: &'a File, version: &str) -> Option<Known<'a>> {
    let content = file.content.as_ref().ok()?;
    let sql = content.sql.as_str();
    if content.directives.no_transaction || sql.len() > LARGEST_MESSAGE {
        return None;
    }
    let statements = split::split(sql).ok().filter(|_| split::is_closed(sql))?;
    if statements.is_empty() {
        return None;
    }
    let outer = split::outer(sql, &statements);
    let plain = Plain::of(sql, &statements, outer.as_ref())?;
    let (key, version) = (quote::literal(file.key.as_str()).ok()?, quote::literal(version).ok()?);
    let row = format!("{key}, '{}', {version}", file.checksum);
    let sql = if outer.is_some() { Cow::Owned(without_outer(sql, &statements)) } else { Cow::Borrowed(sql) };
    Some(Known { plain, sql, row })
}

/// What others keep in the database.
async fn look_into(session: &Session) -> Result<Kept, PgError> {
    let ask = async |sql: String| {
        let answer = session.client.first_value("look for code in the database", &format!("SELECT {sql}")).await;
        answer.map(Option::flatten)
    };
    Ok(match ask(code_sql()).await?.as_deref() {
        None => Kept::Nothing,
        Some("f") => Kept::of(ask(kept_sql()).await?.as_deref()),
        Some(_) => Kept::Code,
    })
}

/// Gives whether what files make stays: where the search path has `pg_temp`, a table may be a temporary one, which is thrown
/// away before a file and not between plain ones.
async fn set_up(session: &Session, setup: &Setup, name: &str) -> Result<bool, PgError> {
    let mut sql = format!("{}; SET application_name = '{name}'", setup.kept());
    if session.prepared().others {
        session.clear_prepared().await?;
    }
    let prepared = session.prepared();
    if !prepared.plain {
        sql.push_str(&format!("; {}", note::prepare_plain_sql(session.note_name())));
    }
    sql.push_str("; SELECT pg_catalog.current_setting('search_path')");
    let path = session.client.first_value("set the session up for plain files", &sql).await?;
    session.set_prepared(Prepared { plain: true, ..prepared });
    Ok(path.flatten().is_some_and(|path| !path.contains("pg_temp")))
}
