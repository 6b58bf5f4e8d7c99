//! Names that people give, checked before anything is built from them.

use crate::random::{self, Entropy};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an instance is called: `^[a-z][a-z0-9-]{2,62}$`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{given}' is not a valid name: use 3 to 63 characters, lower-case letters, digits and '-', starting with a letter"
)]
pub struct InvalidName {
    /// The text as it was given, shortened to 80 characters.
    pub given: String,
}

impl InstanceName {
    /// Lower-cases and checks what a person gave.
    pub fn parse(given: &str) -> Result<Self, InvalidName> {
        let name = given.to_ascii_lowercase();
        let mut bytes = name.bytes();
        let valid = (3..=63).contains(&name.len())
            && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid { Ok(Self(name)) } else { Err(InvalidName { given: given.chars().take(80).collect() }) }
    }

    /// `db-` and eight letters or digits, for a deploy without a name.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(format!("db-{}", random::lower_alnum(entropy, 8)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InvalidName;
    fn try_from(value: String) -> Result<Self, InvalidName> {
        Self::parse(&value)
    }
}

impl From<InstanceName> for String {
    fn from(value: InstanceName) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        for good in ["abc", "my-db", "a12", "db-x0x0x0x0", &"a".repeat(63)] {
            assert_eq!(InstanceName::parse(good).expect(good).as_str(), good);
        }
        assert_eq!(InstanceName::parse("MyDB").expect("lower-cased").as_str(), "mydb");
        for bad in ["", "ab", "1ab", "-ab", "a_b", "a b", "a/b", "../x", "äbc", &"a".repeat(64), "a\n\nb"] {
            assert!(InstanceName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
