//! A database that may not be there yet.

use crate::connect::{Client, Target, connect};
use crate::error::PgError;
use crate::quote::identifier;
use secrecy::SecretString;
use std::time::Duration;

/// The databases of a fresh server that one can log in to in order to make another.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// There is no such database.
const MISSING: &str = "3D000";

/// Logs in to a database, and makes it first if the server has none of this name. True when it was made.
///
/// It is made as `createdb` does: a copy of `template1` that belongs to `user`. Of several calls at once one makes it.
pub async fn connect_or_create(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<(Client, bool), PgError> {
    match connect(target, user, password, db, timeout).await {
        Err(error) if error.sqlstate() == Some(MISSING) => {}
        opened => return Ok((opened?, false)),
    }
    let made = create(target, user, password, db, timeout).await?;
    Ok((connect(target, user, password, db, timeout).await?, made))
}

async fn create(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<bool, PgError> {
    let sql = format!("CREATE DATABASE {}", identifier(db)?);
    let mut session = connect(target, user, password, MAINTENANCE[0], timeout).await;
    if session.as_ref().is_err_and(|error| error.sqlstate() == Some(MISSING)) {
        session = connect(target, user, password, MAINTENANCE[1], timeout).await;
    }
    let session = session?;
    let made = session.batch("create the database", &sql).await;
    session.close().await;
    match made {
        Ok(()) => Ok(true),
        // Another made it since we looked; the second code comes from the catalog's unique index.
        Err(error) if matches!(error.sqlstate(), Some("42P04" | "23505")) => Ok(false),
        Err(error) => Err(error),
    }
}
