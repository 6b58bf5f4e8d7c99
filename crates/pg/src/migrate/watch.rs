//! What a statement locks that runs in no transaction of ours: seen by another session while it runs.
//!
//! A statement that commits by itself can be asked for nothing before its locks are gone. So another session looks again
//! and again at what the one that runs it holds. A lock that comes and goes between two looks is not seen.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::ledger;
use pgdb_core::migration::ledger::SeenLock;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Between two looks, at first; later less often, for what lasts long need not be known to the millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What was seen so far: when each relation was first and last seen locked in its strongest mode.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    locks: HashMap<String, (String, Instant, Instant)>,
}

impl Seen {
    /// Looks through `watcher` at the session whose process is `pid`, until this is dropped or fails.
    pub(crate) async fn watch(&mut self, watcher: &Client, pid: &str) -> Result<Infallible, PgError> {
        let sql = format!("SELECT ({})::text", ledger::held("l.pid = $1::integer", "true", "0"));
        let mut pause = FIRST_PAUSE;
        loop {
            let rows = watcher.query("look at locks", &sql, &[pid]).await?;
            let now = Instant::now();
            for lock in rows.first().map(|row| ledger::locks(row.get(0))).unwrap_or_default() {
                self.add(lock, now);
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn add(&mut self, lock: SeenLock, now: Instant) {
        let seen = self.locks.entry(lock.relation).or_insert_with(|| (lock.mode.clone(), now, now));
        if rank(&lock.mode) > rank(&seen.0) {
            *seen = (lock.mode.clone(), now, now);
        }
        if lock.mode == seen.0 {
            seen.2 = now;
        }
    }

    /// What was seen, with the time between the first and the last look that saw it.
    pub(crate) fn into_locks(self) -> Vec<SeenLock> {
        let locks = self.locks.into_iter().map(|(relation, (mode, first, last))| {
            let held_ms = i64::try_from((last - first).as_millis()).unwrap_or(i64::MAX);
            SeenLock { relation, mode, held_ms }
        });
        let mut locks: Vec<SeenLock> = locks.collect();
        locks.sort_by(|a, b| a.relation.cmp(&b.relation));
        locks
    }
}

/// How strong a mode is among those that the ledger knows.
fn rank(mode: &str) -> Option<usize> {
    ledger::MODE_NAMES.iter().position(|name| *name == mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_mode_counts_and_how_long_it_was_seen() {
        let lock = |mode: &str| SeenLock { relation: "public.t".to_owned(), mode: mode.to_owned(), held_ms: 0 };
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut seen = Seen::default();
        seen.add(lock("ShareLock"), at(0));
        seen.add(lock("AccessExclusiveLock"), at(10));
        seen.add(lock("AccessExclusiveLock"), at(30));
        seen.add(lock("ShareLock"), at(70));
        assert_eq!(seen.into_locks(), [SeenLock { held_ms: 20, ..lock("AccessExclusiveLock") }]);
    }
}
