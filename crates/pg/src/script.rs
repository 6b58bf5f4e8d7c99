//! SQL that people give us to run: masks that change rows, and checks that look at them.

use crate::connect::Client;
use crate::error::PgError;

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Its first column of its first row is true, or a number that is not 0.
    Passed,
    /// It is false, 0, NULL or something else. What it was, shortened.
    Failed(String),
    /// It gave no row.
    NoRow,
}

/// Runs a script in one transaction: all of it or nothing. A script that ends the transaction itself fails, for what it
/// has done before could not be taken back.
pub async fn run_whole(client: &Client, action: &'static str, script: &str) -> Result<(), PgError> {
    client.batch(action, "BEGIN; SAVEPOINT pgdb_script").await?;
    let done = async {
        client.batch(action, script).await?;
        // Gone with its transaction, even if the script has begun another one.
        match client.batch(action, "RELEASE SAVEPOINT pgdb_script").await {
            Err(error) if matches!(error.sqlstate(), Some("25P01" | "3B001")) => Err(PgError::TransactionEnded),
            released => released,
        }
    };
    match done.await {
        Ok(()) => client.batch(action, "COMMIT").await,
        Err(error) => {
            // The first error is the one to tell; a lost session has taken its transaction with it.
            let _ = client.batch(action, "ROLLBACK").await;
            Err(error)
        }
    }
}

/// Runs a check, which may look and not change anything.
pub async fn run_check(client: &Client, sql: &str) -> Result<CheckOutcome, PgError> {
    const ACTION: &str = "run the check";
    client.batch(ACTION, "BEGIN READ ONLY").await?;
    let looked = async {
        let first = client.first_value(ACTION, sql).await?;
        Ok(match first {
            None => CheckOutcome::NoRow,
            Some(value) => judge(value.as_deref()),
        })
    };
    let outcome = looked.await;
    // Nothing was changed; the session is at rest again whatever came out.
    client.batch(ACTION, "ROLLBACK").await?;
    outcome
}

fn judge(value: Option<&str>) -> CheckOutcome {
    match value {
        Some("t" | "true") => CheckOutcome::Passed,
        Some(text) if text.parse::<f64>().is_ok_and(|number| number != 0.0) => CheckOutcome::Passed,
        Some(text) => CheckOutcome::Failed(text.chars().take(80).collect()),
        None => CheckOutcome::Failed("NULL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_and_numbers_but_0_pass() {
        for good in ["t", "true", "1", "-3", "0.5", "1000000"] {
            assert_eq!(judge(Some(good)), CheckOutcome::Passed, "{good}");
        }
        for bad in ["f", "false", "0", "0.0", "", "yes"] {
            assert_eq!(judge(Some(bad)), CheckOutcome::Failed(bad.to_owned()), "{bad}");
        }
        assert_eq!(judge(None), CheckOutcome::Failed("NULL".to_owned()));
    }
}
