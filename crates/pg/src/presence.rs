//! Whether a database is there, and making it when it is not.

use crate::connect::connect;
use crate::error::{Cause, PgError};
use crate::migrate::session::Login;
use crate::quote::identifier;
use tokio::time;

/// The databases of a fresh server that one can log in to in order to make another.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// There is no such database.
const MISSING: &str = "3D000";

/// Whether a login failed because there is no such database.
pub fn is_missing(error: &PgError) -> bool {
    error.sqlstate() == Some(MISSING)
}

/// Makes the database that `login` names, as `createdb` does: a copy of `template1` that belongs to the role. False when
/// it is there already; of several calls at once one makes it.
pub async fn create(login: &Login) -> Result<bool, PgError> {
    let Login { target, user, password, db, timeout } = login;
    let password = password.as_ref();
    let timeout = *timeout;
    let sql = format!("CREATE DATABASE {}", identifier(db)?);
    let mut session = connect(target, user, password, MAINTENANCE[0], timeout).await;
    if session.as_ref().is_err_and(is_missing) {
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

/// Whether one can log in to the database and ask it something.
pub async fn answers(login: &Login) -> Result<(), PgError> {
    let Login { target, user, password, db, timeout } = login;
    let asked = async {
        let client = connect(target, user, password.as_ref(), db, *timeout).await?;
        let answered = client.batch("ask the database for a sign of life", "SELECT 1").await;
        client.close().await;
        answered
    };
    let late = || PgError::CannotConnect { address: target.to_string(), cause: Box::new(Cause::TimedOut(*timeout)) };
    time::timeout(*timeout, asked).await.unwrap_or_else(|_| Err(late()))
}
