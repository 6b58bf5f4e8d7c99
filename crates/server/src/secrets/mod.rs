//! Secrets at rest: sealed with a key that is not in the database.
//!
//! A sealed secret is a version byte, the key's public id (4 bytes), a nonce (24 bytes) and the XChaCha20-Poly1305
//! ciphertext. The associated data says whose secret it is, so that one row's secret cannot be put into another.

mod keyring;
mod rotation;
pub mod routes;
#[cfg(test)]
mod tests;

pub use keyring::{KeyError, Source};

use crate::problem::Problem;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use keyring::{Key, Keyring};
use pgdb_core::random::Entropy;
use rusqlite::Connection;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_ID: std::ops::Range<usize> = 1..5;
const NONCE: std::ops::Range<usize> = 5..29;

/// A key's public id: the start of its SHA-256.
pub type KeyId = [u8; 4];

/// A column of the state file that holds sealed secrets. What is not on the list is lost at a rotation.
#[derive(Debug, Clone, Copy)]
pub struct SealedColumn {
    /// The table.
    pub table: &'static str,
    /// The column that names a row; text.
    pub key: &'static str,
    /// The column with the sealed secret; may be null.
    pub column: &'static str,
    /// What the secret is for. Columns between which a secret is moved as it is share one purpose.
    pub purpose: &'static str,
}

impl SealedColumn {
    /// The associated data of one row's secret, such as `instances/in_abc/password`.
    pub fn aad(&self, key: &str) -> String {
        format!("{}/{key}/{}", self.table, self.purpose)
    }
}

/// The password of an instance.
pub const INSTANCE_PASSWORD: SealedColumn =
    SealedColumn { table: "instances", key: "id", column: "password", purpose: "password" };
/// The password that an instance is being changed to; it moves to [`INSTANCE_PASSWORD`] as it is.
pub const INSTANCE_NEXT_PASSWORD: SealedColumn = SealedColumn { column: "next_password", ..INSTANCE_PASSWORD };
/// The password of our administrator on an instance that has no private socket.
pub const INSTANCE_ADMIN_PASSWORD: SealedColumn =
    SealedColumn { column: "admin_password", purpose: "admin_password", ..INSTANCE_PASSWORD };

/// What the passwords of a server's previews are derived from, where the environment does not say.
pub const PREVIEW_SECRET: SealedColumn =
    SealedColumn { table: "preview_targets", key: "key", column: "secret", purpose: "secret" };

/// Where a template's refresh reads from.
pub const TEMPLATE_SOURCE: SealedColumn =
    SealedColumn { table: "template_definitions", key: "id", column: "source_url", purpose: "source_url" };
/// Who may do what the operator may not while a template is refreshed.
pub const TEMPLATE_ADMIN: SealedColumn =
    SealedColumn { table: "template_definitions", key: "id", column: "admin_url", purpose: "admin_url" };

/// Every sealed column. A capability that keeps secrets adds its own here.
pub const SEALED_COLUMNS: &[SealedColumn] = &[
    INSTANCE_PASSWORD,
    INSTANCE_NEXT_PASSWORD,
    INSTANCE_ADMIN_PASSWORD,
    PREVIEW_SECRET,
    TEMPLATE_SOURCE,
    TEMPLATE_ADMIN,
];

/// Seals and opens secrets.
pub struct Sealer {
    keyring: RwLock<Keyring>,
    source: Source,
}

impl Sealer {
    /// Takes the keys from `PGDB_MASTER_KEY`, or from `data_dir/master.key`, which is made when there is none.
    ///
    /// `used` are the keys that sealed what is stored: when one of them is missing, we do not start.
    pub fn open(
        data_dir: &Path,
        master_key: Option<&SecretString>,
        entropy: &dyn Entropy,
        used: &BTreeSet<KeyId>,
    ) -> Result<Self, KeyError> {
        let (keyring, source) = match master_key {
            Some(text) => (Keyring::parse(text.expose_secret(), &Source::Environment)?, Source::Environment),
            None => {
                let path = data_dir.join("master.key");
                let source = Source::File(path.clone());
                let keyring = match keyring::read(&path)? {
                    Some(keyring) => keyring,
                    None if used.is_empty() => keyring::create(&path, entropy)?,
                    None => return Err(KeyError::FileMissing { path }),
                };
                (keyring, source)
            }
        };
        if let Some(missing) = used.iter().find(|id| keyring.find(**id).is_none()) {
            return Err(KeyError::Missing { id: hex(missing), place: source.to_string() });
        }
        Ok(Self { keyring: RwLock::new(keyring), source })
    }

    /// Seals a secret for its owner.
    ///
    /// Write the result to the state file soon: a key that was rotated away is forgotten a minute later.
    pub fn seal(&self, entropy: &dyn Entropy, aad: &str, secret: &SecretString) -> Result<Vec<u8>, Problem> {
        let keyring = self.keyring.read().unwrap_or_else(PoisonError::into_inner);
        let key = keyring.current();
        let mut blob = Vec::with_capacity(NONCE.end + 16 + secret.expose_secret().len());
        blob.push(VERSION);
        blob.extend_from_slice(&key.id);
        let mut nonce = [0u8; 24];
        entropy.fill(&mut nonce);
        blob.extend_from_slice(&nonce);
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: aad.as_bytes() };
        let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload);
        blob.extend(sealed.map_err(|_| Problem::internal(format!("could not seal {aad}")))?);
        Ok(blob)
    }

    /// Opens what [`Self::seal`] made for the same owner.
    pub fn open_sealed(&self, aad: &str, blob: &[u8]) -> Result<SecretString, Problem> {
        let id = key_id(blob).ok_or_else(|| Problem::internal(format!("{aad} is no sealed secret")))?;
        let keyring = self.keyring.read().unwrap_or_else(PoisonError::into_inner);
        let key = keyring.find(id).ok_or_else(|| {
            Problem::internal(format!("{aad} was sealed with key {}, which is not in {}", hex(&id), self.source))
        })?;
        let nonce: [u8; 24] =
            blob[NONCE].try_into().map_err(|_| Problem::internal(format!("{aad} is no sealed secret")))?;
        let payload = Payload { msg: &blob[NONCE.end..], aad: aad.as_bytes() };
        let opened = cipher(key).decrypt(&XNonce::from(nonce), payload);
        let opened = Zeroizing::new(opened.map_err(|_| {
            Problem::internal(format!("{aad} cannot be opened: it was changed, or belongs to another row"))
        })?);
        let text = std::str::from_utf8(&opened).map_err(|_| Problem::internal(format!("{aad} is not text")))?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// The public id of the key that seals new secrets.
    pub fn current_key_id(&self) -> String {
        hex(&self.keyring.read().unwrap_or_else(PoisonError::into_inner).current().id)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("source", &self.source).finish_non_exhaustive()
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*key.bytes).into())
}

/// Which key sealed a secret; `None` when it is no sealed secret of ours.
fn key_id(blob: &[u8]) -> Option<KeyId> {
    (blob.len() >= NONCE.end + 16 && blob[0] == VERSION).then(|| blob[KEY_ID].try_into().ok()).flatten()
}

/// Which keys sealed what is stored.
pub fn used_keys(connection: &Connection, columns: &[SealedColumn]) -> Result<BTreeSet<KeyId>, Problem> {
    let mut used = BTreeSet::new();
    for SealedColumn { table, column, .. } in columns {
        let sql = format!("SELECT DISTINCT substr({column}, 1, 29) FROM {table} WHERE {column} IS NOT NULL");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let head = row.get_ref(0)?.as_blob().unwrap_or_default();
            if head.len() == NONCE.end && head[0] == VERSION {
                used.extend(<KeyId>::try_from(&head[KEY_ID]));
            }
        }
    }
    Ok(used)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
