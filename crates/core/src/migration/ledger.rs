//! What the target database says was done.

use crate::migration::checksum::Checksum;
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
    /// Of a file without a transaction: how many statements were done.
    pub statements_done: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// How many times it failed in the same way, one after the other.
    pub attempts: i64,
    /// What was locked meanwhile.
    pub locks: Vec<SeenLock>,
}

/// A lock on a relation that was there before, held until the file's transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLock {
    /// The relation, with its schema.
    pub relation: String,
    /// As `pg_locks` calls it, such as `AccessExclusiveLock`.
    pub mode: String,
    /// At most this long: from the begin of the transaction to its end.
    pub held_ms: i64,
}

/// What the ledger says about one key, all its rows taken together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing<'a> {
    /// The newest row that says that the database holds it.
    pub done: Option<&'a LedgerRow>,
    /// What came after that and did not come to a good end.
    pub trouble: Option<&'a LedgerRow>,
}

impl<'a> Standing<'a> {
    /// Takes one more row into account; rows come in the order of their `id`.
    pub fn add(&mut self, row: &'a LedgerRow) {
        match row.outcome {
            outcome if outcome.is_done() => *self = Self { done: Some(row), trouble: None },
            Outcome::Forgotten => *self = Self::default(),
            _ => self.trouble = Some(row),
        }
    }
}
