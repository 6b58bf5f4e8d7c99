//! Copies of whole databases; which way is the quickest is `pgdb_core::copying`'s to say.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;
use pgdb_core::copying::Strategy;

/// The way to begin with for a database of this size. Servers of ours are told to share blocks where the file system was
/// found to be able to; of others it is believed if somebody has told them so.
pub async fn guess(client: &Client, bytes: u64) -> Result<Strategy, PgError> {
    let sql = "SELECT coalesce(current_setting('file_copy_method', true), '')";
    let rows = client.query("look at how files are copied", sql, &[]).await?;
    let shares = rows.first().is_some_and(|row| row.get::<_, &str>(0) == "clone");
    Ok(Strategy::guess(bytes, shares))
}

/// Copies a template, unless there is a whole database of that name already. Tells whether a copy was made.
pub async fn copy(client: &Client, db: &str, template: &str, owner: &str, strategy: Strategy) -> Result<bool, PgError> {
    let look = "SELECT datconnlimit::text FROM pg_database WHERE datname = $1";
    let quoted = identifier(db)?;
    match client.query("look for the database", look, &[db]).await?.first().map(|row| row.get::<_, String>(0)) {
        // The rest of a half-done drop.
        Some(limit) if limit == "-2" => client.batch("drop the database", &format!("DROP DATABASE {quoted}")).await?,
        Some(_) => return Ok(false),
        None => {}
    }
    let mut sql = format!("CREATE DATABASE {quoted} TEMPLATE {} OWNER {}", identifier(template)?, identifier(owner)?);
    if client.major() >= 15 {
        let word = if strategy == Strategy::WalLog { "wal_log" } else { "file_copy" };
        sql.push_str(&format!(" STRATEGY {word}"));
    }
    // Said each time, whatever the server's own setting is: what is measured has to be what was meant.
    let method = match strategy {
        Strategy::Clone if client.major() >= 18 => Some("clone"),
        Strategy::FileCopy if client.major() >= 18 => Some("copy"),
        _ => None,
    };
    if let Some(method) = method {
        client.batch("say how files are copied", &format!("SET file_copy_method = {method}")).await?;
    }
    let done = match client.batch("copy the template", &sql).await {
        // A copy that an earlier call began has ended since we looked; it is whole, or it would not be there.
        Err(error) if matches!(error.sqlstate(), Some("42P04" | "23505")) => Ok(false),
        done => done.map(|()| true),
    };
    if method.is_some() {
        client.batch("forget how files are copied", "RESET file_copy_method").await?;
    }
    done
}
