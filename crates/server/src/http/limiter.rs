//! Slows down guessing of tokens: a bucket of failed attempts per client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures that are free, for people who paste the wrong token.
const CAPACITY: u64 = 10;
/// One more is allowed after each of these.
const REFILL_MS: u64 = 6_000;
/// Clients that are remembered at once.
const CLIENTS: usize = 10_000;

/// Failed attempts by client. Times are [`pgdb_core::time::Clock::monotonic_ms`].
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When each client's bucket is full again.
    full_at: Mutex<HashMap<IpAddr, u64>>,
}

impl Limiter {
    /// How long a client has to wait until its next attempt counts; `None` when it need not.
    pub(super) fn blocked(&self, client: Option<IpAddr>, now_ms: u64) -> Option<Duration> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        wait(full_at.get(&key(client)).copied().unwrap_or(0), now_ms)
    }

    /// Notes a failure, or says how long to wait when there were too many.
    pub(super) fn fail(&self, client: Option<IpAddr>, now_ms: u64) -> Option<Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(client);
        let until = full_at.get(&key).copied().unwrap_or(0);
        if let Some(wait) = wait(until, now_ms) {
            return Some(wait);
        }
        if full_at.len() >= CLIENTS && !full_at.contains_key(&key) {
            full_at.retain(|_, until| *until > now_ms);
            // Still full: the client that is closest to a full bucket loses least.
            let closest = full_at.iter().min_by_key(|(_, until)| **until).map(|(client, _)| *client);
            if let Some(closest) = closest.filter(|_| full_at.len() >= CLIENTS) {
                full_at.remove(&closest);
            }
        }
        full_at.insert(key, until.max(now_ms) + REFILL_MS);
        None
    }
}

fn wait(full_at: u64, now_ms: u64) -> Option<Duration> {
    let allowed_at = full_at.saturating_sub((CAPACITY - 1) * REFILL_MS);
    (allowed_at > now_ms).then(|| Duration::from_millis(allowed_at - now_ms))
}

/// Whoever has one IPv6 address has its whole /64.
fn key(client: Option<IpAddr>) -> IpAddr {
    match client.map(|client| client.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_are_free_and_then_one_every_six_seconds() {
        let limiter = Limiter::default();
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..CAPACITY {
            assert_eq!(limiter.fail(client, 100), None);
        }
        assert_eq!(limiter.blocked(client, 100), Some(Duration::from_secs(6)));
        assert_eq!(limiter.fail(client, 100), Some(Duration::from_secs(6)));
        assert_eq!(limiter.blocked(Some(IpAddr::from([192, 0, 2, 2])), 100), None);
        assert_eq!(limiter.fail(client, 6_100), None);
        assert!(limiter.fail(client, 6_100).is_some());
    }

    #[test]
    fn the_memory_is_bounded_and_a_network_counts_as_one_client() {
        let limiter = Limiter::default();
        for number in 0..u32::try_from(CLIENTS * 2).unwrap_or(0) {
            limiter.fail(Some(IpAddr::from(number.to_be_bytes())), 1);
        }
        assert_eq!(limiter.full_at.lock().map(|map| map.len()).unwrap_or(0), CLIENTS);
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(key(address("2001:db8::1")), key(address("2001:db8::ffff")));
        assert_eq!(key(address("::ffff:192.0.2.1")), IpAddr::from([192, 0, 2, 1]));
    }
}
