//! What libpq calls `sslmode` and `sslrootcert`, as configuration and URLs give them.

use crate::connect::TlsMode;
use std::path::{Path, PathBuf};

/// Whether and how to encrypt, and the file that this came from, for libpq's own programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// Whether and how.
    pub mode: TlsMode,
    /// The authority's file, where its certificates count.
    pub rootcert: Option<PathBuf>,
}

/// Why the two make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SslmodeError {
    /// There is no such mode.
    #[error("'{0}' is none of disable, allow, prefer, require, verify-ca and verify-full")]
    Unknown(String),
    /// Nothing to compare with.
    #[error("{0} needs the authority's certificate: give its PEM file as sslrootcert")]
    RootMissing(&'static str),
    /// libpq's `sslrootcert=system`.
    #[error("sslrootcert=system is not understood; give the PEM file of the authority")]
    System,
    /// The authority's file cannot be read on the machine of this process.
    #[error("sslrootcert: cannot read {path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

impl SslmodeError {
    /// Whether the mode is wrong, as against the root certificate.
    pub fn is_mode(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Reads both as libpq does. `allow` is taken as `prefer`: encrypted where the server can. `require` with a root
/// certificate is `verify-ca`. Reads the file.
pub fn encryption(sslmode: &str, sslrootcert: Option<&Path>) -> Result<Encryption, SslmodeError> {
    let plain = |mode| Ok(Encryption { mode, rootcert: None });
    let verify: fn(String) -> TlsMode = match (sslmode, sslrootcert) {
        ("disable", _) => return plain(TlsMode::Disable),
        ("allow" | "prefer", _) => return plain(TlsMode::Prefer),
        ("require", None) => return plain(TlsMode::Require),
        ("require" | "verify-ca", Some(_)) => TlsMode::VerifyCa,
        ("verify-full", Some(_)) => TlsMode::VerifyFull,
        ("verify-ca", None) => return Err(SslmodeError::RootMissing("verify-ca")),
        ("verify-full", None) => return Err(SslmodeError::RootMissing("verify-full")),
        (other, _) => return Err(SslmodeError::Unknown(other.chars().take(40).flat_map(char::escape_debug).collect())),
    };
    let path = sslrootcert.unwrap_or(Path::new(""));
    if path == Path::new("system") {
        return Err(SslmodeError::System);
    }
    let pem = std::fs::read_to_string(path)
        .map_err(|error| SslmodeError::Unreadable { path: path.display().to_string(), why: error.to_string() })?;
    Ok(Encryption { mode: verify(pem), rootcert: Some(path.to_owned()) })
}

impl TlsMode {
    /// The word that libpq has for it.
    pub const fn sslmode(&self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa(_) => "verify-ca",
            Self::VerifyFull(_) => "verify-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_libpqs() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "PEM").expect("written");
        let verified = |mode| Ok(Encryption { mode, rootcert: Some(file.clone()) });
        let plain = |mode| Ok(Encryption { mode, rootcert: None });
        for (mode, with, without) in [
            ("disable", plain(TlsMode::Disable), plain(TlsMode::Disable)),
            ("allow", plain(TlsMode::Prefer), plain(TlsMode::Prefer)),
            ("prefer", plain(TlsMode::Prefer), plain(TlsMode::Prefer)),
            ("require", verified(TlsMode::VerifyCa("PEM".into())), plain(TlsMode::Require)),
            ("verify-ca", verified(TlsMode::VerifyCa("PEM".into())), Err(SslmodeError::RootMissing("verify-ca"))),
            ("verify-full", verified(TlsMode::VerifyFull("PEM".into())), Err(SslmodeError::RootMissing("verify-full"))),
            ("on", Err(SslmodeError::Unknown("on".into())), Err(SslmodeError::Unknown("on".into()))),
        ] {
            assert_eq!(encryption(mode, Some(&file)), with, "{mode}");
            assert_eq!(encryption(mode, None), without, "{mode}");
        }
        assert_eq!(encryption("verify-full", Some(Path::new("system"))), Err(SslmodeError::System));
        let absent = encryption("verify-ca", Some(&folder.path().join("absent"))).expect_err("no file");
        assert!(!absent.is_mode() && absent.to_string().contains("absent"), "{absent}");
    }
}
