//! What the target database says was done.

use crate::migration::checksum::Checksum;
use crate::migration::file::File;
use crate::operation::text_enum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

text_enum! {
    /// How an attempt ended.
    Outcome {
        /// The file was run.
        Applied = "applied",
        /// Taken as run without running it: `baseline`.
        Baseline = "baseline",
        /// Taken over from another tool's ledger.
        Imported = "imported",
        /// The checksum of a file that was changed after it was run is taken as right: `repair`.
        Repaired = "repaired",
        /// It failed; nothing of it was kept, unless it runs without a transaction.
        Failed = "failed",
        /// A file without a transaction that has begun and not come to its end.
        Unfinished = "unfinished",
        /// No longer counted as run: `repair` of a row whose file is gone.
        Forgotten = "forgotten",
    }
}

impl Outcome {
    /// Whether the database holds what the file does.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Applied | Self::Baseline | Self::Imported | Self::Repaired)
    }
}

/// One attempt, as the ledger has it. Rows are in the order of their `id`, which is the order of what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The number of the row.
    pub id: i64,
    /// `schema/filename`. Text, for it may come from another tool.
    pub key: String,
    /// Of the file's bytes. `None` where another tool did not keep one that can be compared.
    pub checksum: Option<Checksum>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub applied_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// Which version of pgdb, or which other tool.
    pub version: String,
    /// The role that did it.
    pub applied_by: String,
    /// Of a file without a transaction: how many statements were done; 0 also for any file that had none.
    pub statements_done: Option<i64>,
    /// The same, to tell whether a file still begins with what was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it failed.
    pub error: Option<String>,
    /// How many times it failed in the same way, one after the other.
    pub attempts: i64,
    /// What was locked meanwhile.
    pub locks: Vec<SeenLock>,
}

impl LedgerRow {
    /// Whether it says of a file without a statement that it was run.
    pub fn is_of_nothing(&self) -> bool {
        self.outcome == Outcome::Applied && self.statements_done == Some(0)
    }

    /// Whether a run of `file` can go on where this attempt ended: what was done still stands at its begin.
    pub fn goes_on_with(&self, file: &File) -> bool {
        match (&self.progress, &file.content) {
            (Some(progress), Ok(content)) => content.directives.no_transaction && progress.is_begin_of(&content.sql),
            (None, Ok(_)) => self.checksum == Some(file.checksum),
            (_, Err(_)) => false,
        }
    }
}

/// How far a file without a transaction came, as much of it as it takes to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many bytes of its SQL are done.
    pub bytes: usize,
    /// Of these bytes.
    pub sha256: Checksum,
    /// While a statement is at work that can leave invalid indexes behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// How things were before a statement that makes indexes, to tell afterwards which ones it has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The indexes that are none of its own, by their OIDs.
    pub indexes: Vec<u32>,
    /// The OID of the relation that it is about; 0 for none.
    pub relation: u32,
    /// What it is about, as JSON, in the form of the one who wrote it down.
    pub subject: String,
}

impl Progress {
    /// What is done.
    pub fn of(done: &str) -> Self {
        Self { bytes: done.len(), sha256: Checksum::of(done.as_bytes()), before: None }
    }

    /// Whether a file's SQL still begins with what was done.
    pub fn is_begin_of(&self, sql: &str) -> bool {
        let Some((done, rest)) = sql.split_at_checked(self.bytes) else { return false };
        // The last statement needs no semicolon, and the end of a COPY's data is no part of it: neither may go on now.
        let rest = rest.trim_start();
        let ends = done.is_empty()
            || done.ends_with(';')
            || rest.is_empty()
            || [";", "\\."].iter().any(|end| rest.starts_with(end));
        ends && Checksum::of(done.as_bytes()) == self.sha256
    }
}

/// A lock on a relation that was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLock {
    /// The relation, with its schema.
    pub relation: String,
    /// As `pg_locks` calls it, such as `AccessExclusiveLock`.
    pub mode: String,
    /// In milliseconds. At most this long: from the begin of the transaction, or of one that took long from the last look that
    /// did not see it, to its end. When `sampled` about this long: from the first look that saw it to the last.
    pub held_ms: i64,
    /// Seen from outside by looking again and again, as the locks of a statement that cannot be in a transaction have to
    /// be. A lock that was held between two looks is not seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sampled: bool,
}

/// What the ledger says about one key, all its rows taken together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing<'a> {
    /// The newest row that says that the database holds it.
    pub done: Option<&'a LedgerRow>,
    /// What came after that and did not come to a good end.
    pub trouble: Option<&'a LedgerRow>,
    /// The newest attempt after that of which a part is done: no failure that comes later undoes that part.
    pub unfinished: Option<&'a LedgerRow>,
    /// Whether it was ever run with a statement in it, since it was forgotten last.
    ran: bool,
}

impl<'a> Standing<'a> {
    /// Takes one more row into account; rows come in the order of their `id`.
    pub fn add(&mut self, row: &'a LedgerRow) {
        match row.outcome {
            outcome if outcome.is_done() => {
                *self = Self { done: Some(row), ran: self.ran || !row.is_of_nothing(), ..Self::default() };
            }
            Outcome::Forgotten => *self = Self::default(),
            Outcome::Unfinished => (self.trouble, self.unfinished) = (Some(row), Some(row)),
            _ => self.trouble = Some(row),
        }
    }

    /// The newest row that says that the database holds `file`, maybe as it was once. A file without a statement, as
    /// `pgdb migrate new` has made it, was not run if it has one now.
    pub fn done_of(&self, file: &File) -> Option<&'a LedgerRow> {
        self.done.filter(|row| self.ran || row.checksum == Some(file.checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::key::Key;

    fn row(id: i64, outcome: Outcome, progress: Option<Progress>) -> LedgerRow {
        LedgerRow {
            id,
            key: "a/1.sql".to_owned(),
            checksum: Some(Checksum::of(b"-- no-transaction\nx; y;")),
            outcome,
            applied_at: Timestamp::UNIX_EPOCH,
            took_ms: 0,
            version: String::new(),
            applied_by: String::new(),
            statements_done: None,
            progress,
            error: None,
            attempts: 1,
            locks: Vec::new(),
        }
    }

    fn standing(outcomes: &[Outcome]) -> (Option<i64>, Option<i64>, Option<i64>) {
        let ids = 1..;
        let rows: Vec<LedgerRow> = ids.zip(outcomes).map(|(id, outcome)| row(id, *outcome, None)).collect();
        let mut standing = Standing::default();
        for row in &rows {
            standing.add(row);
        }
        (standing.done.map(|row| row.id), standing.trouble.map(|row| row.id), standing.unfinished.map(|row| row.id))
    }

    #[test]
    fn what_is_half_done_stays_so_until_it_is_done_or_forgotten() {
        use Outcome::{Applied, Failed, Forgotten, Unfinished};
        assert_eq!(standing(&[Applied, Unfinished, Failed]), (Some(1), Some(3), Some(2)));
        assert_eq!(standing(&[Unfinished, Failed, Unfinished]), (None, Some(3), Some(3)));
        assert_eq!(standing(&[Unfinished, Failed, Applied]), (Some(3), None, None));
        assert_eq!(standing(&[Unfinished, Failed, Forgotten]), (None, None, None));
    }

    #[test]
    fn a_file_goes_on_behind_what_was_done_if_that_is_the_same() {
        let file = |text: &str| File::new(Key::parse("a/1.sql").expect("a key"), text.as_bytes().to_vec());
        let done = row(1, Outcome::Unfinished, Some(Progress::of("-- no-transaction\nx;")));
        assert!(done.goes_on_with(&file("-- no-transaction\nx; z;")));
        assert!(!done.goes_on_with(&file("-- no-transaction\nw; y;")));
        assert!(!done.goes_on_with(&file("-- no-transaction\nx")));
        assert!(!done.goes_on_with(&file("-- no-transaction\n\u{e4}")));
        assert!(row(1, Outcome::Unfinished, Some(Progress::of(""))).goes_on_with(&file("-- no-transaction\n")));
        assert!(!row(1, Outcome::Unfinished, Some(Progress::of(""))).goes_on_with(&file("x;")));
        let last = row(1, Outcome::Unfinished, Some(Progress::of("-- no-transaction\nSELECT 1")));
        assert!(last.goes_on_with(&file("-- no-transaction\nSELECT 1\n; z;")));
        assert!(!last.goes_on_with(&file("-- no-transaction\nSELECT 1 + 1; z;")));
        // A row of a version that did not keep it.
        let old = row(1, Outcome::Unfinished, None);
        assert!(old.goes_on_with(&file("-- no-transaction\nx; y;")));
        assert!(!old.goes_on_with(&file("-- no-transaction\nx; z;")));
    }
}
