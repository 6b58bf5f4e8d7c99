//! Trying again when a lock could not be had.

use crate::migrate::report::{Event, Failure, Listener};
use std::time::Duration;
use tokio::time;

const FIRST_MS: u64 = 250;
const LONGEST_MS: u64 = 8_000;

/// How often was tried, and how often may be.
#[derive(Debug)]
pub(crate) struct Backoff {
    retries: u32,
    attempts: u32,
    seed: u64,
}

impl Backoff {
    /// `seed` makes two migrators that wait for the same lock wait differently long.
    pub(crate) fn new(retries: u32, seed: u64) -> Self {
        Self { retries, attempts: 0, seed }
    }

    /// How often was tried again.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits before the next attempt and tells so; `false` without waiting when there were enough.
    pub(crate) async fn wait(&mut self, key: &str, failure: &Failure, listener: Listener<'_>) -> bool {
        if self.attempts >= self.retries {
            return false;
        }
        self.attempts += 1;
        let pause = pause(self.attempts, self.seed);
        listener(Event::Retrying { key, attempt: self.attempts, pause, failure });
        time::sleep(pause).await;
        true
    }
}

/// Twice as long each time, of which a part between half and all is waited.
fn pause(attempt: u32, seed: u64) -> Duration {
    let whole = FIRST_MS.checked_shl(attempt - 1).unwrap_or(LONGEST_MS).min(LONGEST_MS);
    let mut mixed = seed ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Duration::from_millis(whole / 2 + (mixed >> 33) % (whole / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        for (attempt, whole) in [(1, 250), (2, 500), (6, 8_000), (60, 8_000), (200, 8_000)] {
            for seed in 0..50 {
                let pause = u64::try_from(pause(attempt, seed).as_millis()).expect("small");
                assert!((whole / 2..=whole).contains(&pause), "{attempt} {pause}");
            }
        }
        assert_ne!(pause(3, 1), pause(3, 2));
    }
}
