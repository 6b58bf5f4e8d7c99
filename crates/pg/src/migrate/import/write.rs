//! Rows of ours for what another tool has applied.

use super::{Applied, Tool};
use crate::error::PgError;
use crate::migrate::error::MigrateError;
use crate::migrate::ledger;
use crate::migrate::run::with_lock;
use crate::migrate::session::Session;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::{Outcome, Standing};
use std::collections::BTreeMap;

/// Writes a row for each file, all of them or none; files that the ledger has already are left as they are.
///
/// Waits for another migrator. Gives how many rows were written.
pub async fn write(session: &Session, tool: Tool, applied: &[(Applied, Checksum)]) -> Result<usize, MigrateError> {
    with_lock(session, async || write_locked(session, tool, applied).await).await
}

async fn write_locked(session: &Session, tool: Tool, applied: &[(Applied, Checksum)]) -> Result<usize, PgError> {
    const SQL: &str = "INSERT INTO pgdb.migrations (key, sha256, outcome, applied_at, took_ms, version) VALUES \
         ($1, $2, $3, coalesce(nullif($4, '')::timestamptz, pg_catalog.clock_timestamp()), $5::bigint, $6)";
    let client = session.client();
    ledger::ensure(client).await?;
    let rows = ledger::read(client).await?.unwrap_or_default();
    let mut standing: BTreeMap<&str, Standing<'_>> = BTreeMap::new();
    for row in &rows {
        standing.entry(row.key.as_str()).or_default().add(row);
    }
    let is_done = |key: &str| standing.get(key).is_some_and(|standing| standing.done.is_some());
    client.batch("begin to write the ledger", "BEGIN").await?;
    let wrote = async {
        let mut written = 0;
        for (file, checksum) in applied.iter().filter(|(file, _)| !is_done(&file.key)) {
            let (hex, took) = (checksum.hex(), file.took_ms.unwrap_or_default().to_string());
            let at = file.applied_at.as_deref().unwrap_or_default();
            let row = [file.key.as_str(), hex.as_str(), Outcome::Imported.as_str(), at, took.as_str(), tool.name()];
            client.query("write the ledger", SQL, &row).await?;
            written += 1;
        }
        Ok(written)
    };
    match wrote.await {
        Ok(written) => client.batch("write the ledger", "COMMIT").await.map(|()| written),
        Err(error) => {
            // The first error is the one to tell; a lost session has taken its transaction with it.
            let _ = client.batch("take it back", "ROLLBACK").await;
            Err(error)
        }
    }
}
