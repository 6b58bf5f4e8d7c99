//! Where the time comes from.

use jiff::Timestamp;

/// Tells the time. The daemon reads the system's clock through this, tests set their own.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which may jump in either direction.
    fn now(&self) -> Timestamp;
    /// Milliseconds since an arbitrary start; never goes backwards. Durations and deadlines use it.
    fn monotonic_ms(&self) -> u64;
}
