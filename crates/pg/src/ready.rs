//! Waiting for a server that is being started.

use crate::connect::{Client, Target, connect};
use crate::error::{Cause, PgError};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::{self, Instant};

/// A start takes 30 to 50 ms; asking more often than this costs the server more than it saves us.
const POLL: Duration = Duration::from_millis(3);

/// Tries until a login and `SELECT 1` work, and returns that session.
///
/// Gives up at once on what does not mend itself (a wrong password, no such database), and after `timeout` with
/// the last error.
pub async fn wait_until_answers(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<Client, PgError> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match attempt(target, user, password, db, left).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if !error.is_transient() || Instant::now() + POLL >= deadline {
            return Err(error);
        }
        time::sleep(POLL).await;
    }
}

async fn attempt(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<Client, PgError> {
    let answered = async {
        let client = connect(target, user, password, db, timeout).await?;
        client.batch("ask the server for a sign of life", "SELECT 1").await?;
        Ok(client)
    };
    time::timeout(timeout, answered).await.unwrap_or_else(|_| {
        Err(PgError::CannotConnect { address: target.to_string(), cause: Box::new(Cause::TimedOut(timeout)) })
    })
}
