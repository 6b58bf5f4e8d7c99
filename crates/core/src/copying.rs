//! Copies of whole databases: the ways there are, and which one is the quickest for a template.
//!
//! The first guess goes by size. Clones that nobody waits for try the other ways too, and from then on what was measured
//! decides: it is the file system that makes the difference, and only a try tells what it can.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a database is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Through the log: quick for small ones, no checkpoint.
    WalLog,
    /// File by file: quick for large ones.
    FileCopy,
    /// File by file, sharing blocks: quick for any size, from PostgreSQL 18 on and where the file system can.
    Clone,
}

impl Strategy {
    /// Up to this size the log is guessed to be quicker; measured on ext4 and XFS.
    const SMALL_BYTES: u64 = 64 << 20;
    /// Up to this size nothing else is tried: files need a checkpoint, which everybody on the server pays for.
    const TINY_BYTES: u64 = 16 << 20;
    /// From this size on the log is not tried: it was never the quickest.
    const HUGE_BYTES: u64 = 1 << 30;

    /// The one to begin with for a size, on a server that shares blocks or does not.
    pub fn guess(bytes: u64, shares_blocks: bool) -> Self {
        if shares_blocks && bytes > Self::TINY_BYTES {
            Self::Clone
        } else if bytes <= Self::SMALL_BYTES {
            Self::WalLog
        } else {
            Self::FileCopy
        }
    }

    /// As SQL and people have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WalLog => "wal_log",
            Self::FileCopy => "file_copy",
            Self::Clone => "clone",
        }
    }

    /// The strategy of this name; the one that always works for any other word.
    pub fn parse(word: &str) -> Self {
        match word {
            "file_copy" => Self::FileCopy,
            "clone" => Self::Clone,
            _ => Self::WalLog,
        }
    }
}

/// What copies of one template took, each way: milliseconds, where the newest counts for a half; none for a way that
/// does not work there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timings(BTreeMap<Strategy, Option<f64>>);

impl Timings {
    /// Takes a copy into account.
    pub fn add(&mut self, copied: Copied) {
        let before = self.0.get(&copied.strategy).copied().flatten();
        let average = |took: f64| before.map_or(took, |before| (before + took) / 2.0);
        self.0.insert(copied.strategy, copied.took_ms.map(average));
    }

    /// The quickest way so far.
    pub fn best(&self) -> Option<Strategy> {
        let measured = self.0.iter().filter_map(|(strategy, took)| Some((*strategy, (*took)?)));
        measured.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(strategy, _)| strategy)
    }

    /// A way that was not tried yet and may be the quickest for a template of this size on this major.
    pub fn untried(&self, bytes: u64, major: u16) -> Option<Strategy> {
        if bytes <= Strategy::TINY_BYTES || major < 15 {
            return None;
        }
        let possible = |strategy: &Strategy| match strategy {
            Strategy::WalLog => bytes < Strategy::HUGE_BYTES,
            Strategy::FileCopy => true,
            Strategy::Clone => major >= 18,
        };
        let all = [Strategy::Clone, Strategy::FileCopy, Strategy::WalLog];
        all.into_iter().filter(possible).find(|strategy| !self.0.contains_key(strategy))
    }

    /// Each way with its milliseconds.
    pub fn by_name(&self) -> BTreeMap<String, Option<f64>> {
        self.0.iter().map(|(strategy, took)| (strategy.as_str().to_owned(), *took)).collect()
    }
}

/// What one copy came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copied {
    /// The way.
    pub strategy: Strategy,
    /// Milliseconds; none when that way does not work there.
    pub took_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(strategy: Strategy, took_ms: impl Into<Option<f64>>) -> Copied {
        Copied { strategy, took_ms: took_ms.into() }
    }

    #[test]
    fn what_was_measured_decides_and_the_newest_counts_for_a_half() {
        let mut timings = Timings::default();
        assert_eq!(timings.best(), None);
        timings.add(took(Strategy::WalLog, 80.0));
        timings.add(took(Strategy::FileCopy, 100.0));
        timings.add(took(Strategy::Clone, None));
        assert_eq!(timings.best(), Some(Strategy::WalLog));
        timings.add(took(Strategy::WalLog, 160.0));
        assert_eq!(timings.by_name()["wal_log"], Some(120.0));
        assert_eq!(timings.best(), Some(Strategy::FileCopy));
    }

    #[test]
    fn only_what_may_be_the_quickest_is_tried() {
        let untried = |bytes, major| {
            let (mut timings, mut tried) = (Timings::default(), Vec::new());
            while let Some(strategy) = timings.untried(bytes, major) {
                tried.push(strategy.as_str());
                timings.add(took(strategy, 1.0));
            }
            tried
        };
        assert_eq!(untried(40 << 20, 18), ["clone", "file_copy", "wal_log"]);
        assert_eq!(untried(40 << 20, 15), ["file_copy", "wal_log"]);
        assert_eq!(untried(4 << 30, 18), ["clone", "file_copy"]);
        assert!(untried(8 << 20, 18).is_empty(), "a checkpoint for nothing");
        assert!(untried(40 << 20, 14).is_empty(), "there is one way only");
    }
}
