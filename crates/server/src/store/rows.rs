//! How values are kept in rows.

use jiff::Timestamp;

/// A time as microseconds since 1970.
pub fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A stored time; out-of-range values, which only a hand-edited file holds, become 1970.
pub fn from_micros(value: i64) -> Timestamp {
    Timestamp::from_microsecond(value).unwrap_or_default()
}
