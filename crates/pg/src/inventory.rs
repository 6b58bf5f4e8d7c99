//! What a server holds under our prefixes, to be compared with what we know of.

use crate::connect::Client;
use crate::error::PgError;

/// A database whose name begins as ours do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDatabase {
    /// Its name.
    pub name: String,
    /// Whether it is whole; the rest of a half-done drop is not.
    pub valid: bool,
}

/// Databases whose names begin with a prefix.
pub async fn databases(client: &Client, prefix: &str) -> Result<Vec<FoundDatabase>, PgError> {
    let sql = "SELECT datname::text, (datconnlimit <> -2)::text FROM pg_database WHERE starts_with(datname, $1) \
               ORDER BY datname";
    let rows = client.query("list the databases", sql, &[prefix]).await?;
    Ok(rows.iter().map(|row| FoundDatabase { name: row.get(0), valid: row.get::<_, &str>(1) == "true" }).collect())
}

/// Roles whose names begin with a prefix.
pub async fn roles(client: &Client, prefix: &str) -> Result<Vec<String>, PgError> {
    let sql = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY rolname";
    Ok(client.query("list the roles", sql, &[prefix]).await?.iter().map(|row| row.get(0)).collect())
}

/// Process ids of a database's sessions, without those of autovacuum.
pub async fn sessions(client: &Client, db: &str) -> Result<Vec<String>, PgError> {
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE datname = $1 AND usesysid IS NOT NULL ORDER BY pid";
    Ok(client.query("list the database's sessions", sql, &[db]).await?.iter().map(|row| row.get(0)).collect())
}

/// Folders of databases that no catalog knows, untouched for ten minutes: what a server that was killed while it copied
/// has left. Only a superuser can see them.
pub async fn stray_directories(client: &Client) -> Result<Vec<String>, PgError> {
    let sql = "SELECT name FROM pg_ls_dir('base') name WHERE name ~ '^[0-9]+$' \
               AND NOT EXISTS (SELECT FROM pg_database WHERE oid::text = name) \
               AND (pg_stat_file('base/' || name, true)).modification < now() - interval '10 minutes' ORDER BY name";
    Ok(client.query("list the server's folders", sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
