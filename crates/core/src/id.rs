//! Identifiers of our own records.

use crate::random::{self, Entropy};
use crate::time::Clock;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new identifier: the prefix, the time in base 36 (so that ids sort by age), and randomness.
            pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                let ms = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
                Self(format!(concat!($prefix, "{}{}"), base36(ms), random::lower_alnum(entropy, 8)))
            }

            /// Takes a stored or received identifier as it is; `None` unless it has this kind's form.
            pub fn parse(text: &str) -> Option<Self> {
                let rest = text.strip_prefix($prefix)?;
                let well_formed = rest.len() <= 32
                    && !rest.is_empty()
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                well_formed.then(|| Self(text.to_owned()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier! {
    /// Names one durable operation, for example `op_0mhk3v9q1zk2c8x1p`.
    OperationId, "op_"
}
identifier! {
    /// Names one instance for its whole life, whatever it is called; also its folder's name.
    InstanceId, "in_"
}
identifier! {
    /// Names one access token; the public half of the token's text.
    TokenId, "tk_"
}

/// Nine base-36 digits, which hold milliseconds until the year 5188.
fn base36(mut value: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut out = [b'0'; 9];
    for slot in out.iter_mut().rev() {
        *slot = DIGITS[usize::try_from(value % 36).unwrap_or(0)];
        value /= 36;
    }
    out.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_later_milliseconds_sort_after_earlier_ones() {
        assert!(base36(1_790_000_000_000) < base36(1_790_000_000_001));
        assert_eq!(base36(35), "00000000z");
    }

    #[test]
    fn parse_refuses_what_could_leave_a_folder() {
        assert!(OperationId::parse("op_abc1").is_some());
        for bad in ["op_", "op_../x", "op_A", "in_abc", "", "op_a b"] {
            assert!(OperationId::parse(bad).is_none(), "{bad}");
        }
    }
}
