//! Changing the master key without a moment at which a secret cannot be opened.
//!
//! 1. The key file becomes [new, old…]. A crash from here on finds every key.
//! 2. Everything is sealed anew in one transaction.
//! 3. `settle`: what was sealed with an old key meanwhile is sealed anew too, and the file becomes [new].
//!    It runs a minute after a rotation and at every start, so a crash only delays it.

use super::keyring::Key;
use super::{SealedColumn, Sealer, Source, hex, key_id, used_keys};
use crate::problem::Problem;
use crate::store::Store;
use pgdb_core::random::Entropy;
use rusqlite::{Connection, params};
use std::sync::{Arc, PoisonError};

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The public id of the key that seals from now on.
    pub key_id: String,
    /// How many secrets were sealed anew.
    pub resealed: usize,
}

impl Sealer {
    /// Takes a new key into use and seals everything with it. Old keys stay known until [`Self::settle`].
    ///
    /// Keys from `PGDB_MASTER_KEY` are not ours to make: then everything is sealed with the first of them.
    pub async fn rotate(
        self: &Arc<Self>,
        store: &Store,
        entropy: &Arc<dyn Entropy>,
        columns: &'static [SealedColumn],
    ) -> Result<Rotated, Problem> {
        match &self.source {
            Source::File(path) => {
                let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
                let next = keyring.with_new(Key::generate(entropy.as_ref()));
                next.write(path).map_err(|error| Problem::internal(crate::problem::chain(&error)))?;
                *keyring = next;
            }
            Source::Environment => {
                let current = self.keyring.read().unwrap_or_else(PoisonError::into_inner).current().id;
                let used = store.read(|connection| used_keys(connection, columns)).await?;
                if used.iter().all(|id| *id == current) {
                    return Err(Problem::conflict(
                        "master_key_from_environment",
                        "the master key comes from PGDB_MASTER_KEY: put a new key first in it (new,old), restart pgdb, \
                         rotate again, then take the old one out",
                    ));
                }
            }
        }
        let resealed = self.reseal(store, entropy, columns).await?;
        Ok(Rotated { key_id: self.current_key_id(), resealed })
    }

    /// Seals anew what an older key still seals, then forgets the older keys. Does nothing when there are none.
    pub async fn settle(
        self: &Arc<Self>,
        store: &Store,
        entropy: &Arc<dyn Entropy>,
        columns: &'static [SealedColumn],
    ) -> Result<(), Problem> {
        let Source::File(path) = &self.source else { return Ok(()) };
        let before = self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !before.has_older() {
            return Ok(());
        }
        self.reseal(store, entropy, columns).await?;
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        if keyring.current().id != before.current().id {
            // A rotation came in between; it has a settling of its own.
            return Ok(());
        }
        let next = keyring.without_older();
        next.write(path).map_err(|error| Problem::internal(crate::problem::chain(&error)))?;
        *keyring = next;
        Ok(())
    }

    async fn reseal(
        self: &Arc<Self>,
        store: &Store,
        entropy: &Arc<dyn Entropy>,
        columns: &'static [SealedColumn],
    ) -> Result<usize, Problem> {
        let (sealer, entropy) = (Arc::clone(self), Arc::clone(entropy));
        store.write(move |connection| sealer.reseal_all(connection, entropy.as_ref(), columns)).await
    }

    fn reseal_all(
        &self,
        connection: &Connection,
        entropy: &dyn Entropy,
        columns: &[SealedColumn],
    ) -> Result<usize, Problem> {
        let current = self.keyring.read().unwrap_or_else(PoisonError::into_inner).current().id;
        let mut resealed = 0;
        for sealed in columns {
            let SealedColumn { table, key, column, .. } = sealed;
            let mut statement =
                connection.prepare(&format!("SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL"))?;
            let rows = statement
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?
                .collect::<Result<Vec<_>, _>>()?;
            let mut update = connection.prepare(&format!("UPDATE {table} SET {column} = ?2 WHERE {key} = ?1"))?;
            for (row, blob) in rows {
                if key_id(&blob) == Some(current) {
                    continue;
                }
                let aad = sealed.aad(&row);
                let secret = self.open_sealed(&aad, &blob)?;
                update.execute(params![row, self.seal(entropy, &aad, &secret)?])?;
                resealed += 1;
            }
        }
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('master_key_id', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [hex(&current)],
        )?;
        Ok(resealed)
    }
}
