//! What has failed is left alone for a while, longer with every failure: whoever tries again at once, when a failure is
//! what wakes them, does nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The first rest.
const FIRST_MS: u64 = 5_000;
/// The longest one.
const LONGEST_MS: u64 = 300_000;

/// Who rests, by what they are called.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<HashMap<String, Rest>>);

#[derive(Debug, Clone, Copy)]
struct Rest {
    length_ms: u64,
    until_ms: u64,
}

impl Rests {
    /// Notes a failure at this monotonic time.
    pub(super) fn failed(&self, what: &str, now_ms: u64) {
        let mut rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has rested and was not heard of again is forgotten.
        rests.retain(|_, rest| now_ms < rest.until_ms.saturating_add(LONGEST_MS));
        let before = rests.get(what).map(|rest| rest.length_ms);
        let length_ms = before.map_or(FIRST_MS, |before| (before * 2).min(LONGEST_MS));
        rests.insert(what.to_owned(), Rest { length_ms, until_ms: now_ms.saturating_add(length_ms) });
    }

    /// Notes a success: the next failure is the first again.
    pub(super) fn succeeded(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// Milliseconds until somebody's rest is over, if anybody rests.
    pub(super) fn next_in(&self, now_ms: u64) -> Option<u64> {
        let rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rests.values().filter_map(|rest| rest.until_ms.checked_sub(now_ms)).filter(|left| *left > 0).min()
    }

    /// Whether it may be tried now.
    pub(super) fn over(&self, what: &str, now_ms: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what).is_none_or(|rest| rest.until_ms <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_with_failures_and_end_with_a_success() {
        let rests = Rests::default();
        assert!(rests.over("a", 0));
        rests.failed("a", 1000);
        assert_eq!((rests.next_in(2_000), rests.next_in(6_000)), (Some(4_000), None));
        assert!(!rests.over("a", 5_999) && rests.over("a", 6_000) && rests.over("b", 1000));
        rests.failed("a", 6_000);
        assert!(!rests.over("a", 15_999) && rests.over("a", 16_000));
        for _ in 0..20 {
            rests.failed("a", 20_000);
        }
        assert!(!rests.over("a", 319_999) && rests.over("a", 320_000));
        rests.succeeded("a");
        assert!(rests.over("a", 20_000));
    }
}
