//! One migrator at a time for each database.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::error::MigrateError;
use crate::migrate::report::{Event, Listener};
use std::time::Duration;
use tokio::time::{self, Instant};

/// The number of the lock, `pgdbmig` in ASCII. Advisory locks are per database by themselves.
const NUMBER: i64 = 0x7067_6462_6d69_6701_u64.cast_signed() & i64::MAX;
/// What an expression of [`guard`] fails with, between quotation marks of PostgreSQL's.
pub(crate) const LOST: &str = "pgdb: the lock is lost";
/// How long to wait for another migrator.
pub(crate) const WAIT: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Takes the lock for as long as the session lasts, or until [`release`].
///
/// It is asked for again and again instead of waited for on the server: a statement that waits there holds a snapshot,
/// and `CREATE INDEX CONCURRENTLY` of the one who has the lock would wait for that snapshot in turn.
pub(crate) async fn acquire(client: &Client, wait: Duration, listener: Listener<'_>) -> Result<(), MigrateError> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        match try_once(client).await?.as_deref() {
            Some("true") => return Ok(()),
            Some("shared") => return Err(MigrateError::SharedSession),
            _ => {}
        }
        let waited = begin.elapsed();
        if !told || waited >= wait {
            let holder = holder(client).await?;
            if waited >= wait {
                return Err(MigrateError::Locked { holder, waited });
            }
            listener(Event::Waiting { holder: &holder });
            told = true;
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Gives `true`, `false`, or `shared` if the server's session has it already: then it is somebody else's as well, for ours
/// has not asked yet.
async fn try_once(client: &Client) -> Result<Option<String>, PgError> {
    let sql = format!(
        "SELECT CASE WHEN {} THEN 'shared' ELSE pg_catalog.pg_try_advisory_lock({NUMBER})::pg_catalog.text END",
        is_mine()
    );
    client.first_value("take the migrators' lock", &sql).await.map(Option::flatten)
}

/// SQL that is true of the row of `pg_locks` that is the lock.
pub(crate) fn is_migrators(row: &str) -> String {
    let (high, low) = (NUMBER >> 32, NUMBER & 0xffff_ffff);
    format!(
        "{row}.locktype = 'advisory' AND {row}.granted AND {row}.objsubid = 1 \
         AND {row}.classid = {high}::pg_catalog.oid AND {row}.objid = {low}::pg_catalog.oid"
    )
}

/// SQL that is true while this session has the lock, which a file can give up.
fn is_mine() -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() AND {})",
        is_migrators("l")
    )
}

/// SQL that is true while this session has the lock, and else fails.
pub(crate) fn guard() -> String {
    format!("(CASE WHEN {} THEN '1' ELSE '{LOST}' END)::integer = 1", is_mine())
}

/// Whether this session still has it.
pub(crate) async fn is_held(client: &Client) -> Result<bool, PgError> {
    let sql = format!("SELECT {}", is_mine());
    Ok(client.first_value("look for the migrators' lock", &sql).await?.flatten().as_deref() == Some("t"))
}

/// Lets others in.
pub(crate) async fn release(client: &Client) -> Result<(), PgError> {
    client.batch("give the migrators' lock back", &format!("SELECT pg_catalog.pg_advisory_unlock({NUMBER})")).await
}

/// Who has it, as far as that can be seen.
async fn holder(client: &Client) -> Result<String, PgError> {
    let sql = format!(
        "SELECT 'process ' || l.pid || coalesce(', ' || nullif(a.application_name, ''), '') \
         || coalesce(', role ' || a.usename, '') || coalesce(', from ' || host(a.client_addr), '') \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
         AND (l.classid::bigint << 32) | l.objid::bigint = {NUMBER}"
    );
    let seen = client.first_value("look who has the migrators' lock", &sql).await?.flatten();
    Ok(seen.unwrap_or_else(|| "it has just ended".to_owned()))
}
