//! What a statement is, as far as a runner has to know.

use super::lexer::{Lexer, Token};

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`; not back to a savepoint.
    Rollback,
    /// `COMMIT AND CHAIN`: the next transaction begins at once.
    CommitAndChain,
    /// `ROLLBACK AND CHAIN`.
    RollbackAndChain,
    /// Whatever else ends a transaction: `PREPARE TRANSACTION`, `COMMIT PREPARED`.
    OtherEnd,
    /// `COPY … FROM STDIN`; its data follows.
    CopyFromStdin,
    /// `COPY … TO STDOUT`.
    CopyToStdout,
    /// `CREATE INDEX CONCURRENTLY`.
    CreateIndexConcurrently,
    /// `REINDEX … CONCURRENTLY`.
    ReindexConcurrently,
    /// Cannot run in a transaction: `VACUUM`, `ALTER SYSTEM`, `CREATE DATABASE`…
    Alone,
    /// `DISCARD ALL`, which gives up what the session holds.
    Discard,
    /// `PREPARE`, `DEALLOCATE`: changes what is prepared in the session.
    Prepared,
    /// `CALL`, `DO`: what runs may end the transaction by itself, where there is none around it.
    Procedural,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether it begins or ends a transaction.
    pub fn controls_transaction(self) -> bool {
        self == Self::Begin || self.ends_transaction() || matches!(self, Self::CommitAndChain | Self::RollbackAndChain)
    }

    /// Whether no transaction is open after it.
    pub fn ends_transaction(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::OtherEnd)
    }

    /// Whether PostgreSQL refuses it inside a transaction, whatever the database is like: `DROP SUBSCRIPTION` is none.
    pub fn is_alone(self) -> bool {
        matches!(self, Self::CreateIndexConcurrently | Self::ReindexConcurrently | Self::Alone | Self::Discard)
    }
}

/// What stood around a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    /// What its BEGIN said of the transaction, such as `ISOLATION LEVEL SERIALIZABLE`; mostly nothing.
    pub modes: String,
}

const WORDS: usize = 6;

/// Takes in a statement's parts one by one.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The first words outside parentheses, in lower case; longer ones than any that we know are cut.
    words: [Short; WORDS],
    count: usize,
    previous: Short,
    parentheses: usize,
    /// Whether a BEGIN ATOMIC is open.
    body: bool,
    /// Whether a statement of that body could begin here.
    between: bool,
    from_stdin: bool,
    to_stdout: bool,
    concurrently: bool,
    /// Whether there is a DETACH PARTITION.
    detach: bool,
    /// Whether something that is no word stands outside parentheses: a name in quotes, where a name can stand.
    quoted: bool,
    /// Whether CREATE SUBSCRIPTION says itself whether it makes a slot at the publisher.
    slot: bool,
}

impl Reader {
    /// Whether a semicolon here ends the statement.
    pub(super) fn can_end(&self) -> bool {
        self.parentheses == 0 && !self.body
    }

    pub(super) fn read(&mut self, text: &str, token: &Token) {
        let between = std::mem::take(&mut self.between);
        let previous = std::mem::take(&mut self.previous);
        match token {
            Token::Open(_) => self.parentheses += 1,
            // One too many is PostgreSQL's to complain about.
            Token::Close(_) => self.parentheses = self.parentheses.saturating_sub(1),
            Token::Word(span) => self.word(Short::of(&text[span.clone()]), previous, between),
            Token::Semicolon(_) => self.between = self.parentheses == 0,
            Token::Other(_) => self.quoted |= self.parentheses == 0,
            Token::Backslash(_) => {}
        }
    }

    fn word(&mut self, word: Short, previous: Short, between: bool) {
        self.previous = word;
        // REINDEX (CONCURRENTLY) is the same as REINDEX … CONCURRENTLY.
        self.concurrently |= word.is("concurrently") && (self.parentheses == 0 || self.at(0, "reindex"));
        self.slot |= self.at(1, "subscription") && (word.is("connect") || word.is("create_slot"));
        if self.parentheses > 0 {
            return;
        }
        self.detach |= previous.is("detach") && word.is("partition");
        if self.count < WORDS {
            self.words[self.count] = word;
        }
        self.count += 1;
        // Either word means the client, whichever way the data goes.
        let client = word.is("stdin") || word.is("stdout");
        self.from_stdin |= previous.is("from") && client;
        self.to_stdout |= previous.is("to") && client;
        if self.body {
            // Each statement of a body has its semicolon, and none begins with END. So an END behind a semicolon is the
            // body's, and every other one is a CASE's or a name: `t.end`, `AS end`, `SELECT 1 end`.
            self.body = !(between && word.is("end"));
        } else if previous.is("begin") && word.is("atomic") && self.makes_routine() {
            (self.body, self.between) = (true, true);
        }
    }

    /// CREATE [OR REPLACE] FUNCTION or PROCEDURE.
    fn makes_routine(&self) -> bool {
        let routine = |at: usize| self.at(at, "function") || self.at(at, "procedure");
        self.at(0, "create") && (routine(1) || (self.at(1, "or") && self.at(2, "replace") && routine(3)))
    }

    fn at(&self, index: usize, word: &str) -> bool {
        self.words[index].is(word)
    }

    pub(super) fn kind(self) -> Kind {
        let at = |index: usize, word: &str| self.at(index, word);
        // AND NO CHAIN is the same as nothing.
        let chained = (at(1, "and") || at(2, "and")) && !at(2, "no") && !at(3, "no");
        match self.words[0].as_str() {
            "begin" => Kind::Begin,
            "start" if at(1, "transaction") => Kind::Begin,
            "commit" | "rollback" if at(1, "prepared") => Kind::OtherEnd,
            "commit" | "end" if chained => Kind::CommitAndChain,
            "commit" | "end" => Kind::Commit,
            "rollback" | "abort" if at(1, "to") || at(2, "to") => Kind::Other,
            "rollback" | "abort" if chained => Kind::RollbackAndChain,
            "rollback" | "abort" => Kind::Rollback,
            "prepare" if at(1, "transaction") => Kind::OtherEnd,
            "copy" if self.from_stdin => Kind::CopyFromStdin,
            "copy" if self.to_stdout => Kind::CopyToStdout,
            "create" if at(1, "index") && at(2, "concurrently") => Kind::CreateIndexConcurrently,
            "create" if at(1, "unique") && at(2, "index") && at(3, "concurrently") => Kind::CreateIndexConcurrently,
            "reindex" if self.concurrently => Kind::ReindexConcurrently,
            "reindex" if at(1, "database") || at(1, "system") || at(1, "schema") => Kind::Alone,
            "drop" if at(1, "index") && at(2, "concurrently") => Kind::Alone,
            "create" | "drop" if at(1, "database") || at(1, "tablespace") => Kind::Alone,
            "create" if at(1, "subscription") && !self.slot => Kind::Alone,
            "alter" if at(1, "table") && self.detach && self.concurrently => Kind::Alone,
            // Of every table, each in a transaction of its own.
            "cluster" if !self.quoted && (self.count == 1 || (self.count == 2 && at(1, "verbose"))) => Kind::Alone,
            "vacuum" => Kind::Alone,
            "alter" if at(1, "system") => Kind::Alone,
            "discard" if at(1, "all") => Kind::Discard,
            "prepare" | "deallocate" => Kind::Prepared,
            "call" | "do" => Kind::Procedural,
            _ => Kind::Other,
        }
    }
}

/// What stands between BEGIN and its semicolon, but for WORK and TRANSACTION; comments are left out.
pub(super) fn modes(begin: &str) -> String {
    let words = Lexer::new(begin).map(|token| &begin[token.span()]);
    let mut words = words.filter(|word| *word != ";").skip(1).peekable();
    let filler = |word: &&str| ["work", "transaction"].iter().any(|filler| word.eq_ignore_ascii_case(filler));
    words.next_if(filler);
    words.collect::<Vec<_>>().join(" ")
}

/// A word of at most as many bytes as the longest that we look for, in lower case; a longer one is none of them.
#[derive(Debug, Clone, Copy, Default)]
struct Short {
    bytes: [u8; 12],
    len: u8,
}

impl Short {
    fn of(word: &str) -> Self {
        let mut short = Self::default();
        if word.len() <= short.bytes.len() && word.is_ascii() {
            for (to, from) in short.bytes.iter_mut().zip(word.bytes()) {
                *to = from.to_ascii_lowercase();
            }
            short.len = u8::try_from(word.len()).unwrap_or(0);
        }
        short
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    fn is(&self, word: &str) -> bool {
        self.as_str() == word
    }
}
