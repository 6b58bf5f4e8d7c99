//! Which failures pass by themselves, and how long to wait for that.

/// How a request failed, as far as trying again goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<'a> {
    /// No answer: it could not be sent, was cut off, or took too long. It may have been carried out all the same.
    Silent,
    /// An answer that refuses.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The provider's code; empty if there was none.
        code: &'a str,
    },
}

/// Longest pause before one attempt.
const LONGEST_PAUSE_MS: u64 = 20_000;

impl Failure<'_> {
    /// Whether the same request may go well later. Every request of ours can be sent twice: names are unique, and the
    /// others ask for a state.
    pub fn passes(self) -> bool {
        match self {
            Self::Silent => true,
            Self::Refused { status, code } => {
                matches!(status, 408 | 429 | 500..)
                    || matches!(code, "locked" | "conflict" | "rate_limit_exceeded" | "maintenance" | "timeout")
            }
        }
    }
}

/// Milliseconds before attempt number `attempt` (1 is the second one). `chance` from 0 to 255 spreads the attempts of
/// several programs. A rate limit needs no other pause: the provider gives back one request a second, and the time that
/// it tells is when all of them are back.
pub fn pause_ms(attempt: u32, base_ms: u64, chance: u8) -> u64 {
    let grown = base_ms.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE_MS);
    grown / 2 + grown / 2 * u64::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_tried_again() {
        let refused = |status, code| Failure::Refused { status, code };
        for passes in [
            Failure::Silent,
            refused(500, ""),
            refused(503, "service_error"),
            refused(429, "rate_limit_exceeded"),
            refused(423, "locked"),
            refused(409, "conflict"),
        ] {
            assert!(passes.passes(), "{passes:?}");
        }
        for stays in [
            refused(401, "unauthorized"),
            refused(403, "resource_limit_exceeded"),
            refused(409, "uniqueness_error"),
            refused(412, "resource_unavailable"),
            refused(422, "placement_error"),
            refused(404, "not_found"),
        ] {
            assert!(!stays.passes(), "{stays:?}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<_> = (1..8).map(|attempt| pause_ms(attempt, 500, 255)).collect();
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
        assert_eq!(pause_ms(1, 500, 0), 500);
    }
}
