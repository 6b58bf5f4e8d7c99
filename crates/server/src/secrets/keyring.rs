//! Master keys: reading, making and keeping them.

use super::{KeyId, hex};
use crate::files::{self, SecretFileError};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use pgdb_core::random::Entropy;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// One master key.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) bytes: Zeroizing<[u8; 32]>,
}

impl Key {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let digest = Sha256::digest(bytes.as_slice());
        Self { id: [digest[0], digest[1], digest[2], digest[3]], bytes }
    }

    pub(super) fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        entropy.fill(bytes.as_mut_slice());
        Self::new(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut decoded = Zeroizing::new(Vec::new());
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            for pair in text.as_bytes().chunks(2) {
                decoded.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
            }
        } else {
            let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
            *decoded = engines.iter().find_map(|engine| engine.decode(text).ok())?;
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        if decoded.len() != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(&decoded);
        Some(Self::new(bytes))
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// `PGDB_MASTER_KEY`.
    Environment,
    /// A file that is ours.
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => f.write_str("PGDB_MASTER_KEY"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why there is no usable master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A key has another form.
    #[error(
        "key {number} in {place} is no master key: write 32 bytes as 64 hexadecimal digits or as base64 (openssl rand \
         -hex 32)"
    )]
    Malformed {
        /// Which one, from 1.
        number: usize,
        /// Where.
        place: String,
    },
    /// No key at all.
    #[error("{place} holds no master key; put it back from a backup")]
    Empty {
        /// Where.
        place: String,
    },
    /// The file is gone, while secrets sealed with it are there.
    #[error(
        "{} is missing, and stored secrets are sealed with it; put it back from a backup, or set PGDB_MASTER_KEY",
        path.display()
    )]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A key is gone, while secrets sealed with it are there.
    #[error("stored secrets are sealed with key {id}, which is not in {place}; add that key (docs/operating.md)")]
    Missing {
        /// The key's public id.
        id: String,
        /// Where it was looked for.
        place: String,
    },
}

/// Master keys, the one for new secrets first. Never empty.
#[derive(Clone)]
pub(super) struct Keyring {
    current: Key,
    older: Vec<Key>,
}

impl Keyring {
    /// Reads keys separated by commas or line breaks.
    pub(super) fn parse(text: &str, source: &Source) -> Result<Self, KeyError> {
        let mut keys =
            text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()).enumerate().map(|(index, part)| {
                Key::parse(part).ok_or_else(|| KeyError::Malformed { number: index + 1, place: source.to_string() })
            });
        let current = keys.next().ok_or_else(|| KeyError::Empty { place: source.to_string() })??;
        Ok(Self { current, older: keys.collect::<Result<_, _>>()? })
    }

    pub(super) fn current(&self) -> &Key {
        &self.current
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.older).find(|key| key.id == id)
    }

    /// Whether there are keys besides the current one.
    pub(super) fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// The same with a new current key.
    pub(super) fn with_new(&self, new: Key) -> Self {
        let older = std::iter::once(&self.current).chain(&self.older).cloned().collect();
        Self { current: new, older }
    }

    /// The current key alone.
    pub(super) fn without_older(&self) -> Self {
        Self { current: self.current.clone(), older: Vec::new() }
    }

    /// Writes one key a line, all or none.
    pub(super) fn write(&self, path: &Path) -> Result<(), KeyError> {
        // Room for everything at once: a buffer that grows leaves copies of keys behind.
        let mut text = Zeroizing::new(String::with_capacity(65 * (1 + self.older.len())));
        for key in std::iter::once(&self.current).chain(&self.older) {
            let mut line = hex(key.bytes.as_slice());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
            line.zeroize();
        }
        Ok(files::write_secret(path, text.as_bytes())?)
    }
}

pub(super) fn read(path: &Path) -> Result<Option<Keyring>, KeyError> {
    let source = Source::File(path.to_owned());
    files::read_secret(path)?.map(|text| Keyring::parse(&text, &source)).transpose()
}

pub(super) fn create(path: &Path, entropy: &dyn Entropy) -> Result<Keyring, KeyError> {
    let keyring = Keyring { current: Key::generate(entropy), older: Vec::new() };
    keyring.write(path)?;
    Ok(keyring)
}
