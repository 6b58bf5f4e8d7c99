//! The row of a file that runs in steps: how far it came, and what it locked.

use crate::error::PgError;
use crate::migrate::held::{OPEN_MS, held, held_as_json, held_here};
use crate::migrate::ledger::{locks, locks_as_json};
use crate::migrate::lock;
use crate::migrate::mark::holder;
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use crate::quote;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::{Progress, SeenLock};
use tokio_postgres::Row;

/// One statement of ours, as the login and with names that are PostgreSQL's, whatever the file has set in its session.
/// No transaction of the file may be open.
pub(super) async fn ask(
    session: &Session,
    action: &'static str,
    sql: &str,
    params: &[&str],
) -> Result<Vec<Row>, PgError> {
    let keeper = session.keeper();
    if session.is_apart() {
        return keeper.query(action, sql, params).await;
    }
    keeper.batch("begin a transaction", &format!("BEGIN; {}", Setup::FOR_A_NOTE)).await?;
    match keeper.query(action, sql, params).await {
        Ok(rows) => keeper.batch("commit", "COMMIT").await.map(|()| rows),
        Err(error) => {
            // A lost session has taken its transaction with it.
            let _ = keeper.batch("roll back", "ROLLBACK").await;
            Err(error)
        }
    }
}

/// Begins a row; gives its number.
pub(super) async fn begin(session: &Session, key: &str, checksum: Checksum, version: &str) -> Result<i64, PgError> {
    const SQL: &str = "INSERT INTO pgdb.migrations (key, sha256, outcome, version, statements_done, progress, applied_by) \
         VALUES ($1, $2, 'unfinished', $3, 0, $4::jsonb, $5) RETURNING id";
    let params = [key, &checksum.hex(), version, &as_json(&Progress::of("")), session.user()];
    let rows = ask(session, "write the ledger", SQL, &params).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Goes on with a row, for the file as it is now.
pub(super) async fn resume(
    session: &Session,
    row: i64,
    checksum: Checksum,
    progress: &Progress,
) -> Result<(), PgError> {
    const SQL: &str = "UPDATE pgdb.migrations SET sha256 = $2, progress = coalesce(progress, $3::jsonb) \
         WHERE id = $1::bigint";
    let params = [&row.to_string(), &checksum.hex(), &as_json(progress)];
    ask(session, "write the ledger", SQL, &params.map(String::as_str)).await.map(drop)
}

/// Writes down what comes before a statement that can leave something behind.
pub(super) async fn before(session: &Session, row: i64, progress: &Progress) -> Result<(), PgError> {
    const SQL: &str = "UPDATE pgdb.migrations SET progress = $2::jsonb WHERE id = $1::bigint";
    let params = [&row.to_string(), &as_json(progress)];
    ask(session, "write the ledger", SQL, &params.map(String::as_str)).await.map(drop)
}

/// SQL that notes how many statements are done, and what was `seen` to be locked; inside the transaction of the last of
/// them also what that has locked.
pub(super) fn done(
    session: &Session,
    row: i64,
    done: usize,
    progress: &Progress,
    seen: &[SeenLock],
    inside: bool,
) -> Result<String, PgError> {
    let own = match inside {
        true => held_as_json(&held_here(), OPEN_MS),
        false => "'[]'::jsonb".to_owned(),
    };
    // A keeper's lock is out of a file's reach.
    let held = if session.is_apart() { "true".to_owned() } else { lock::guard() };
    Ok(format!(
        "UPDATE pgdb.migrations SET statements_done = {done}, doing = NULL, progress = {}::jsonb, locks = {} \
         WHERE id = {row} AND {held}",
        quote::literal(&as_json(progress))?,
        merged(&format!("{own} || {}::jsonb", quote::literal(&locks_as_json(seen))?)),
    ))
}

/// Adds what the transaction `xid` of another session holds, for the last `ms` milliseconds.
pub(super) async fn add_held(session: &Session, row: i64, xid: &str, ms: u64) -> Result<(), PgError> {
    // What the transaction itself made is not seen from here, and nobody can wait for it.
    let own = held_as_json(&held(&holder("$2"), "true"), "$3::bigint");
    let sql = format!("UPDATE pgdb.migrations SET locks = {} WHERE id = $1::bigint", merged(&own));
    let params = [row.to_string(), xid.to_owned(), ms.to_string()];
    session.keeper().query("write the ledger", &sql, &params.each_ref().map(String::as_str)).await.map(drop)
}

/// The file has come to its end. What it failed with before stays in its row. Gives all that it was seen to lock.
pub(super) async fn end(session: &Session, row: i64) -> Result<Vec<SeenLock>, PgError> {
    let held = if session.is_apart() { "true".to_owned() } else { lock::guard() };
    let sql = format!(
        "UPDATE pgdb.migrations SET outcome = 'applied', doing = NULL, progress = NULL, \
         took_ms = (extract(epoch FROM clock_timestamp() - applied_at) * 1000)::bigint, \
         applied_at = clock_timestamp() WHERE id = $1::bigint AND {held} RETURNING locks::text"
    );
    let rows = ask(session, "write the ledger", &sql, &[&row.to_string()]).await?;
    Ok(rows.first().map(|row| locks(row.get(0))).unwrap_or_default())
}

/// The file has failed on its way. Of one of which nothing is left, done or half done, nothing is kept to go on with:
/// `false`, and the failure is not written down yet.
pub(crate) async fn fail(session: &Session, row: i64, seen: &[SeenLock], error: &str) -> Result<bool, PgError> {
    const GONE: &str = "DELETE FROM pgdb.migrations WHERE id = $1::bigint AND statements_done = 0 \
         AND progress ->> 'before' IS NULL RETURNING id";
    let number = row.to_string();
    if !ask(session, "note a failure in the ledger", GONE, &[&number]).await?.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "UPDATE pgdb.migrations SET attempts = attempts + (error IS NOT NULL)::integer, error = $2, locks = {} \
         WHERE id = $1::bigint",
        merged("$3::jsonb")
    );
    ask(session, "note a failure in the ledger", &sql, &[&number, error, &locks_as_json(seen)]).await.map(|_| true)
}

/// The row's locks and `more` of them: of the same relation, in the same mode, the one that was held longest.
fn merged(more: &str) -> String {
    format!(
        "(SELECT coalesce(jsonb_agg(one ORDER BY one ->> 'relation', one ->> 'mode'), '[]') FROM \
         (SELECT jsonb_build_object('relation', e ->> 'relation', 'mode', e ->> 'mode', \
            'held_ms', max((e ->> 'held_ms')::bigint)) \
            || CASE WHEN e ? 'sampled' THEN '{{\"sampled\": true}}'::jsonb ELSE '{{}}'::jsonb END AS one \
          FROM jsonb_array_elements(locks || {more}) AS e \
          GROUP BY e ->> 'relation', e ->> 'mode', e ? 'sampled') AS each)"
    )
}

fn as_json(progress: &Progress) -> String {
    serde_json::to_string(progress).unwrap_or_default()
}
