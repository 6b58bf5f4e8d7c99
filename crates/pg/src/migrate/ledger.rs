//! The ledger: `pgdb.migrations` in the target database, a row for each attempt.

use crate::connect::Client;
use crate::error::PgError;
use jiff::Timestamp;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::{LedgerRow, Outcome, SeenLock};
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// Where it is.
pub const TABLE: &str = "pgdb.migrations";

/// No schema, no table.
const ABSENT: [&str; 2] = ["3F000", "42P01"];

/// Makes it. Asked for by hand, for `CREATE SCHEMA IF NOT EXISTS` wants the right to make one even if it is there.
const CREATE: &str = "DO $$ BEGIN \
     IF pg_catalog.to_regnamespace('pgdb') IS NULL THEN \
       CREATE SCHEMA pgdb; COMMENT ON SCHEMA pgdb IS 'what pgdb keeps about this database'; \
     END IF; \
     IF pg_catalog.to_regclass('pgdb.migrations') IS NULL THEN \
       CREATE TABLE pgdb.migrations ( \
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         key text NOT NULL, \
         sha256 text, \
         outcome text NOT NULL, \
         applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), \
         took_ms bigint NOT NULL DEFAULT 0, \
         version text NOT NULL, \
         applied_by text NOT NULL DEFAULT session_user, \
         statements_done bigint, \
         attempts bigint NOT NULL DEFAULT 1, \
         error text, \
         locks jsonb NOT NULL DEFAULT '[]', \
         doing jsonb); \
       COMMENT ON TABLE pgdb.migrations IS 'a row for each attempt to run a migration; see pgdb migrate history'; \
     ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute \
         WHERE attrelid = 'pgdb.migrations'::pg_catalog.regclass AND attname = 'doing') THEN \
       ALTER TABLE pgdb.migrations ADD COLUMN doing jsonb; \
     END IF; END $$";

/// The modes that others have to wait for, from the weakest to the strongest; the same in SQL.
pub(crate) const MODE_NAMES: [&str; 5] =
    ["ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"];
const MODES: &str = "ARRAY['ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
     'AccessExclusiveLock']";

/// What a session has locked in modes that others have to wait for, as the ledger keeps it: relations that were there
/// before, and the strongest mode of each. `of` picks the locks `l` of one session, `old` the relations `c` with the row
/// types `t` that were there before; `ms` is for how long they were held. Outside of its own database a session locks only
/// what all share.
///
/// Names are looked up for each lock and not joined, for a join reads all relations of a large database.
pub(crate) fn held(of: &str, old: &str, ms: &str) -> String {
    format!(
        "coalesce((SELECT jsonb_agg(jsonb_build_object('relation', r.name, 'mode', ({MODES})[h.mode], 'held_ms', {ms}) \
           ORDER BY r.name) \
         FROM (SELECT l.relation, max(array_position({MODES}, l.mode)) AS mode FROM pg_locks l \
               WHERE {of} AND l.granted AND l.locktype = 'relation' AND l.mode = ANY ({MODES}) \
                 AND l.database <> 0 \
               GROUP BY 1 OFFSET 0) h, \
              LATERAL (SELECT n.nspname || '.' || c.relname AS name FROM pg_class c, pg_namespace n, pg_type t \
               WHERE c.oid = h.relation AND n.oid = c.relnamespace AND t.oid = c.reltype \
                 AND c.relkind IN ('r', 'p', 'm', 'v', 'f') AND c.relpersistence <> 't' \
                 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgdb') AND {old} OFFSET 0) r), '[]')"
    )
}

/// Writes the row of a file inside its transaction, with what the transaction has locked. A relation that the transaction
/// itself made nobody can wait for; one is known by its row type, which is made with it and not changed later.
pub(crate) fn note_sql() -> String {
    format!(
        "INSERT INTO pgdb.migrations (key, sha256, outcome, took_ms, version, locks) \
         SELECT $1, $2, 'applied', took.ms, $3, {held} FROM (SELECT (extract(epoch FROM \
           clock_timestamp() - transaction_timestamp()) * 1000)::bigint AS ms) took RETURNING locks::text",
        held = held("l.pid = pg_backend_pid()", "age(t.xmin) > age(pg_current_xact_id()::xid)", "took.ms"),
    )
}

/// What the statement of [`note_sql`] is called once it was prepared.
pub(crate) const PREPARED_NOTE: &str = "pgdb_note";

/// Prepares [`note_sql`] in this session, with the search path that it runs with, so that it is planned once. What a file
/// has prepared is thrown away, as everything else is that a file leaves in the session.
pub(crate) async fn prepare(client: &Client) -> Result<(), PgError> {
    let sql = format!(
        "DEALLOCATE ALL; SET search_path TO pg_catalog, pg_temp; PREPARE {PREPARED_NOTE} (text, text, text) AS {}",
        note_sql()
    );
    client.batch("prepare the ledger's row", &sql).await
}

/// Makes the ledger if there is none; one round trip.
pub async fn ensure(client: &Client) -> Result<(), PgError> {
    client.batch("make the ledger (schema pgdb)", CREATE).await
}

/// All that planning needs, in the order of what happened; `None` without a ledger. Locks are left out.
pub async fn read(client: &Client) -> Result<Option<Vec<LedgerRow>>, PgError> {
    select(client, "'[]'", "ORDER BY id", &[]).await
}

/// The newest attempts, newest first, of one key or of all; with everything about them.
pub async fn history(client: &Client, key: Option<&str>, limit: u32) -> Result<Option<Vec<LedgerRow>>, PgError> {
    let limit = limit.to_string();
    let tail = "WHERE $1 = '' OR key = $1 ORDER BY id DESC LIMIT $2::bigint";
    select(client, "locks::text", tail, &[key.unwrap_or_default(), &limit]).await
}

async fn select(client: &Client, locks: &str, tail: &str, params: &[&str]) -> Result<Option<Vec<LedgerRow>>, PgError> {
    let sql = format!(
        "SELECT id, key, sha256, outcome, applied_at, took_ms, version, applied_by, statements_done, error, attempts, \
         {locks} FROM pgdb.migrations {tail}"
    );
    match client.query("read the ledger", &sql, params).await {
        Ok(rows) => Ok(Some(rows.iter().filter_map(parse).collect())),
        Err(error) if error.sqlstate().is_some_and(|code| ABSENT.contains(&code)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A row of ours; one with an outcome that a later version made up is passed over.
fn parse(row: &Row) -> Option<LedgerRow> {
    let text = |index: usize| row.get::<_, Option<&str>>(index);
    Some(LedgerRow {
        id: row.get(0),
        key: text(1)?.to_owned(),
        checksum: text(2).and_then(|hex| Checksum::parse(hex).ok()),
        outcome: Outcome::parse(text(3)?)?,
        applied_at: row.get::<_, At>(4).0,
        took_ms: row.get(5),
        version: text(6)?.to_owned(),
        applied_by: text(7)?.to_owned(),
        statements_done: row.get(8),
        error: text(9).map(str::to_owned),
        attempts: row.get(10),
        locks: text(11).map(locks).unwrap_or_default(),
    })
}

/// What the ledger keeps as JSON.
pub(crate) fn locks(json: &str) -> Vec<SeenLock> {
    // Most files lock nothing that others use.
    if json == "[]" { Vec::new() } else { serde_json::from_str(json).unwrap_or_default() }
}

/// Writes down that a file of `user` failed. The same failure once more is counted instead of repeated.
pub(crate) async fn note_failure(
    client: &Client,
    user: &str,
    key: &str,
    checksum: Checksum,
    took_ms: u64,
    version: &str,
    error: &str,
) -> Result<(), PgError> {
    const SQL: &str = "WITH last AS (SELECT id FROM pgdb.migrations WHERE key = $1 ORDER BY id DESC LIMIT 1), \
         again AS (UPDATE pgdb.migrations m SET attempts = attempts + 1, took_ms = $3::bigint, \
           applied_at = pg_catalog.clock_timestamp(), version = $4 \
           FROM last WHERE m.id = last.id AND m.outcome = 'failed' AND m.sha256 = $2 AND m.error = $5 RETURNING 1) \
         INSERT INTO pgdb.migrations (key, sha256, outcome, took_ms, version, error, applied_by) \
         SELECT $1, $2, 'failed', $3::bigint, $4, $5, $6 WHERE NOT EXISTS (SELECT FROM again)";
    let (checksum, took) = (checksum.hex(), took_ms.to_string());
    client.query("note a failure in the ledger", SQL, &[key, &checksum, &took, version, error, user]).await.map(drop)
}

/// Begins the row of a file of `user` without a transaction; gives its number.
pub(crate) async fn begin_steps(
    client: &Client,
    user: &str,
    key: &str,
    checksum: Checksum,
    version: &str,
) -> Result<i64, PgError> {
    const SQL: &str = "INSERT INTO pgdb.migrations (key, sha256, outcome, version, statements_done, applied_by) \
         VALUES ($1, $2, 'unfinished', $3, 0, $4) RETURNING id";
    let rows = client.query("write the ledger", SQL, &[key, &checksum.hex(), version, user]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// SQL that notes how many statements are done, and what they have locked: an expression with the ledger's JSON.
pub(crate) fn steps_done_sql(row: i64, done: usize, locks: &str) -> String {
    format!(
        "UPDATE pgdb.migrations SET statements_done = {done}, doing = NULL, locks = locks || {locks} WHERE id = {row}"
    )
}

/// What the session itself has locked in its transaction, as [`held`] gives it.
pub(crate) fn held_here() -> String {
    held(
        "l.pid = pg_backend_pid()",
        "age(t.xmin) > age(pg_current_xact_id()::xid)",
        "(extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000)::bigint",
    )
}

/// The file has come to its end. Of what its statements have locked each relation stays once, with its strongest mode.
pub(crate) async fn end_steps(client: &Client, row: i64) -> Result<Vec<SeenLock>, PgError> {
    let sql = format!(
        "UPDATE pgdb.migrations SET outcome = 'applied', error = NULL, doing = NULL, \
         took_ms = (extract(epoch FROM pg_catalog.clock_timestamp() - applied_at) * 1000)::bigint, \
         applied_at = pg_catalog.clock_timestamp(), \
         locks = coalesce((SELECT pg_catalog.jsonb_agg(lock ORDER BY lock ->> 'relation') FROM ( \
           SELECT DISTINCT ON (lock ->> 'relation') lock FROM pg_catalog.jsonb_array_elements(locks) lock \
           ORDER BY lock ->> 'relation', pg_catalog.array_position({MODES}, lock ->> 'mode') DESC, \
             (lock ->> 'held_ms')::bigint DESC) strongest), '[]') \
         WHERE id = $1::bigint RETURNING locks::text"
    );
    let rows = client.query("write the ledger", &sql, &[&row.to_string()]).await?;
    Ok(rows.first().map(|row| locks(row.get(0))).unwrap_or_default())
}

/// What a row says is at work, as JSON.
pub(crate) async fn doing(client: &Client, row: i64) -> Result<Option<String>, PgError> {
    const SQL: &str = "SELECT doing::text FROM pgdb.migrations WHERE id = $1::bigint";
    let rows = client.query("read the ledger", SQL, &[&row.to_string()]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Writes down what will be at work.
pub(crate) async fn begin_doing(client: &Client, row: i64, doing: &str) -> Result<(), PgError> {
    const SQL: &str = "UPDATE pgdb.migrations SET doing = $2::jsonb WHERE id = $1::bigint";
    client.query("write the ledger", SQL, &[&row.to_string(), doing]).await.map(drop)
}

/// The file has failed on its way. Where nothing was done and nothing is left, there is nothing to go on with.
pub(crate) async fn fail_steps(client: &Client, row: i64, done: usize, left: bool, error: &str) -> Result<(), PgError> {
    let sql = match (done, left) {
        (0, false) => "DELETE FROM pgdb.migrations WHERE id = $1::bigint AND $2 <> ''",
        (_, false) => {
            "UPDATE pgdb.migrations SET error = $2, attempts = attempts + 1, doing = NULL WHERE id = $1::bigint"
        }
        (_, true) => "UPDATE pgdb.migrations SET error = $2, attempts = attempts + 1 WHERE id = $1::bigint",
    };
    client.query("note a failure in the ledger", sql, &[&row.to_string(), error]).await.map(drop)
}

/// Writes a row by hand: `baseline` and `repair`.
pub async fn note(
    client: &Client,
    key: &str,
    checksum: Option<Checksum>,
    outcome: Outcome,
    version: &str,
) -> Result<(), PgError> {
    const SQL: &str = "INSERT INTO pgdb.migrations (key, sha256, outcome, version) \
         VALUES ($1, nullif($2, ''), $3, $4)";
    let checksum = checksum.map(|checksum| checksum.hex()).unwrap_or_default();
    client.query("write the ledger", SQL, &[key, &checksum, outcome.as_str(), version]).await.map(drop)
}

/// A moment, as PostgreSQL sends it.
struct At(Timestamp);

/// 2000-01-01, where PostgreSQL's time begins, in microseconds of ours.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for At {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let microseconds = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_microsecond(microseconds.saturating_add(EPOCH_MICROSECONDS))?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}
