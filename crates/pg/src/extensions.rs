//! Extensions: what a server has to offer, what a database has, and installing one.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;
use std::collections::{BTreeMap, BTreeSet};

/// The extensions that the server could install, and whether whoever owns a database may do so (it is trusted).
pub async fn available(client: &Client) -> Result<BTreeMap<String, bool>, PgError> {
    let sql = "SELECT name::text, bool_or(trusted)::text FROM pg_available_extension_versions GROUP BY name";
    let rows = client.query("look at the server's extensions", sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get::<_, &str>(1) == "true")).collect())
}

/// The extensions of the database that the client is in, without the one that every database has.
pub async fn installed(client: &Client) -> Result<BTreeSet<String>, PgError> {
    let sql = "SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql'";
    let rows = client.query("look at the database's extensions", sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Installs an extension with those that it needs. One that is there is left as it is.
pub async fn install(client: &Client, name: &str) -> Result<(), PgError> {
    let sql = format!("CREATE EXTENSION IF NOT EXISTS {} CASCADE", identifier(name)?);
    client.batch("install the extension", &sql).await
}
