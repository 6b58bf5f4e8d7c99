//! The ports that instances are given.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// An inclusive range of TCP ports, written `15432-16431`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a port range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a port range: write FIRST-LAST, both from 1024 to 65535, FIRST not above LAST")]
pub struct InvalidPortRange(String);

impl PortRange {
    /// How many ports it holds.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Whether a port lies in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The lowest port that is not in `taken`.
    pub fn first_free(self, taken: &BTreeSet<u16>) -> Option<u16> {
        (self.first..=self.last).find(|port| !taken.contains(port))
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 15432, last: 19431 }
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            (range.first >= 1024 && range.first <= range.last).then_some(range)
        };
        parse().ok_or_else(|| InvalidPortRange(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for PortRange {
    type Error = InvalidPortRange;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let range: PortRange = "20000-20002".parse().expect("valid");
        assert_eq!(range.first_free(&BTreeSet::from([20000, 20001])), Some(20002));
        assert_eq!(range.first_free(&BTreeSet::from([20000, 20001, 20002])), None);
        for bad in ["", "5", "9-8", "80-90", "20000-70000", "a-b", "20001-20000"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
