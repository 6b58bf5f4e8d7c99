//! A server's host key, which it is given when it is made: so the first connection is already a verified one.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The kind that is made and pinned.
const KIND: &str = "ssh-ed25519";
/// Bytes of a public key.
const LENGTH: usize = 32;

/// A public ed25519 host key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey([u8; LENGTH]);

impl HostKey {
    /// Reads `ssh-ed25519 BASE64 [comment]`, as ssh-keygen writes it.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (kind, text) = (words.next()?, words.next()?);
        let blob = STANDARD.decode(text).ok()?;
        let key = blob.strip_prefix(&Self::head()[..])?;
        (kind == KIND).then_some(Self(key.try_into().ok()?))
    }

    /// Each part of a key's blob comes after its length.
    fn head() -> Vec<u8> {
        let part = |length: u8| [0, 0, 0, length];
        [&part(11)[..], KIND.as_bytes(), &part(32)[..]].concat()
    }

    /// `ssh-ed25519 BASE64`, for a file of known hosts.
    pub fn line(&self) -> String {
        format!("{KIND} {}", STANDARD.encode([&Self::head()[..], &self.0[..]].concat()))
    }

    /// The key as the value of a label: at most 63 characters that begin and end with a letter or digit.
    pub fn label(&self) -> String {
        format!("k{}k", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Reads what [`Self::label`] wrote.
    pub fn from_label(value: &str) -> Option<Self> {
        let text = value.strip_prefix('k')?.strip_suffix('k')?;
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn a_key_survives_being_a_label() {
        let key = HostKey::parse(&format!("{LINE} root@somewhere\n")).expect("a key");
        assert_eq!(key.line(), LINE);
        let label = key.label();
        assert!(
            label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
            "{label}"
        );
        assert_eq!(HostKey::from_label(&label), Some(key));
        for bad in ["", "k", "kk", "k!k", "kAAAAk"] {
            assert_eq!(HostKey::from_label(bad), None, "{bad}");
        }
        for bad in ["", "ssh-ed25519", "ssh-rsa AAAA", "ssh-ed25519 AAAA", &LINE.replace("AAAAC3", "AAAAD3")] {
            assert_eq!(HostKey::parse(bad), None, "{bad}");
        }
    }
}
