//! What a server made by `pgdb infra init` is called.

use std::fmt;

/// A host name of one label: `^[a-z][a-z0-9-]{1,47}[a-z0-9]$`. What belongs to the server is called after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfraName(String);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{given}' cannot be a server's name: use 3 to 49 characters, lower-case letters, digits and '-', starting with a \
     letter and not ending with '-'"
)]
pub struct InvalidInfraName {
    /// The text as it was given, shortened to 80 characters.
    pub given: String,
}

impl InfraName {
    /// Checks what a person gave.
    pub fn parse(given: &str) -> Result<Self, InvalidInfraName> {
        let bytes = given.as_bytes();
        let valid = (3..=49).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes[bytes.len() - 1] != b'-'
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if valid {
            Ok(Self(given.to_owned()))
        } else {
            Err(InvalidInfraName { given: given.chars().take(80).collect() })
        }
    }

    /// The name as text, which is also the server's.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its firewall is called.
    pub fn firewall(&self) -> String {
        format!("{}-firewall", self.0)
    }

    /// What its volume is called.
    pub fn volume(&self) -> String {
        format!("{}-data", self.0)
    }
}

impl fmt::Display for InfraName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_name_and_leaves_room_for_what_is_called_after_it() {
        for good in ["pgdb", "pgdb-prod", "a12", &"a".repeat(49)] {
            assert_eq!(InfraName::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "ab", "1ab", "-ab", "ab-", "Pgdb", "a_b", "a b", "../x", "a.b", &"a".repeat(50)] {
            assert!(InfraName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
