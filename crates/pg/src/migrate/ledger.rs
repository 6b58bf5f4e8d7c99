//! The ledger: `pgdb.migrations` in the target database, a row for each attempt.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::lock;
use crate::migrate::trust::{self, Found, Use};
use jiff::Timestamp;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::{LedgerRow, Outcome, Progress, SeenLock};
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// Where it is.
pub const TABLE: &str = "pgdb.migrations";

/// No schema, no table.
const ABSENT: [&str; 2] = ["3F000", "42P01"];
/// No right to make a schema.
const FORBIDDEN: &str = "42501";
/// A column that every ledger has is not there.
const OTHER_COLUMNS: &str = "42703";
/// It is there already: a schema, a table, or a row of the catalogs at the same moment.
const PRESENT: [&str; 3] = ["42P06", "42P07", "23505"];

/// Makes it where nothing is.
const SCHEMA: &str = "CREATE SCHEMA pgdb; COMMENT ON SCHEMA pgdb IS 'what pgdb keeps about this database'";
const RELATION: &str = "CREATE TABLE pgdb.migrations ( \
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
         doing jsonb, \
         progress jsonb); \
       COMMENT ON TABLE pgdb.migrations IS 'a row for each attempt to run a migration; see pgdb migrate history'";

/// Makes what is missing of it. Asked for by hand, for `CREATE SCHEMA IF NOT EXISTS` wants the right to make one even if it
/// is there. What is new is nobody's but its owner's, whatever the default privileges say; who has rights on it later got
/// them on purpose.
fn create() -> String {
    format!(
        "DO $$ DECLARE new_schema boolean := false; grantee text; BEGIN \
     IF pg_catalog.to_regnamespace('pgdb') IS NULL THEN {SCHEMA}; new_schema := true; END IF; \
     IF pg_catalog.to_regclass('pgdb.migrations') IS NULL THEN {RELATION}; \
       FOR grantee IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' \
             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END \
           FROM (SELECT relacl AS acl, relowner AS owner FROM pg_catalog.pg_class \
                   WHERE relnamespace = pg_catalog.to_regnamespace('pgdb') AND relkind IN ('r', 'S') \
                 UNION ALL SELECT nspacl, nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'pgdb' AND new_schema) o, \
             pg_catalog.aclexplode(o.acl) a WHERE a.grantee <> o.owner LOOP \
         EXECUTE 'REVOKE ALL ON pgdb.migrations, pgdb.migrations_id_seq FROM ' || grantee; \
         IF new_schema THEN EXECUTE 'REVOKE ALL ON SCHEMA pgdb FROM ' || grantee; END IF; \
       END LOOP; \
     ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute \
         WHERE attrelid = 'pgdb.migrations'::pg_catalog.regclass AND attname = 'progress') THEN \
       ALTER TABLE pgdb.migrations ADD COLUMN IF NOT EXISTS doing jsonb, ADD COLUMN IF NOT EXISTS progress jsonb; \
     END IF; END $$"
    )
}

/// Makes the ledger if there is none. [`PgError::UnfitLedger`] if there is one that we may not or must not write. Gives whether
/// it was made just now, and so has no rows.
pub async fn ensure(client: &Client) -> Result<bool, PgError> {
    const MAKE: &str = "make the ledger (schema pgdb)";
    match trust::check(client, Use::Write).await? {
        Found::Whole => return Ok(false),
        Found::Nothing => {
            match client.batch(MAKE, &format!("{SCHEMA}; {RELATION}")).await {
                // All of it is ours, for it was made as one.
                Ok(()) => return Ok(true),
                Err(error) if error.sqlstate().is_some_and(|code| PRESENT.contains(&code)) => {}
                Err(error) if error.sqlstate() == Some(FORBIDDEN) => {
                    return Err(PgError::UnfitLedger {
                    what: format!("the ledger could not be made: {}", error.server().map_or("", |server| &server.message)),
                    advice: "let somebody who may say `CREATE SCHEMA pgdb AUTHORIZATION …` with the role of this login, or \
                             `GRANT CREATE ON DATABASE … TO …`"
                        .to_owned(),
                });
                }
                Err(error) => return Err(error),
            }
        }
        Found::Absent | Found::Older => {}
    }
    client.batch(MAKE, &create()).await?;
    // Somebody else may have made one at the same moment.
    trust::check(client, Use::Write).await.map(|_| false)
}

/// All that planning needs, in the order of what happened; `None` without a ledger. Locks are left out.
///
/// [`PgError::UnfitLedger`] if reading it could run somebody's code; so with [`history`].
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
    let progress = match trust::check(client, Use::Read).await? {
        Found::Nothing | Found::Absent => return Ok(None),
        // Until the next run adds it.
        Found::Older => "NULL",
        Found::Whole => "progress::text",
    };
    let sql = format!(
        "SELECT id, key, sha256, outcome, applied_at, took_ms, version, applied_by, statements_done, error, attempts, \
         {locks}, {progress} FROM pgdb.migrations {tail}"
    );
    match client.query("read the ledger", &sql, params).await {
        Ok(rows) => rows.iter().map(parse).collect::<Result<_, _>>().map(Some),
        Err(error) if error.sqlstate() == Some(OTHER_COLUMNS) => Err(PgError::UnfitLedger {
            what: format!("{TABLE} is no ledger: {}", error.server().map_or("", |server| &server.message)),
            advice: "it is somebody else's table; give it another name (ALTER TABLE … RENAME TO …), or another schema"
                .to_owned(),
        }),
        // Removed since we have looked.
        Err(error) if error.sqlstate().is_some_and(|code| ABSENT.contains(&code)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A row of ours.
fn parse(row: &Row) -> Result<LedgerRow, PgError> {
    let text = |index: usize| row.get::<_, Option<&str>>(index);
    let known = |outcome: &str| {
        Outcome::parse(outcome).ok_or_else(|| PgError::UnfitLedger {
            what: format!(
                "{TABLE} has a row with the outcome '{}', which this version does not know",
                outcome.escape_debug()
            ),
            advice: "use the version of pgdb that has written it (its column `version` tells), or a later one"
                .to_owned(),
        })
    };
    Ok(LedgerRow {
        id: row.get(0),
        key: text(1).unwrap_or_default().to_owned(),
        checksum: text(2).and_then(|hex| Checksum::parse(hex).ok()),
        outcome: known(text(3).unwrap_or_default())?,
        applied_at: row.get::<_, At>(4).0,
        took_ms: row.get(5),
        version: text(6).unwrap_or_default().to_owned(),
        applied_by: text(7).unwrap_or_default().to_owned(),
        statements_done: row.get(8),
        error: text(9).map(str::to_owned),
        attempts: row.get(10),
        locks: text(11).map(locks).unwrap_or_default(),
        progress: text(12).and_then(|json| serde_json::from_str(json).ok()),
    })
}

/// What the ledger keeps.
pub(crate) fn locks_as_json(locks: &[SeenLock]) -> String {
    serde_json::to_string(locks).unwrap_or_else(|_| "[]".to_owned())
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

/// Writes the row of a file without a statement, run by `user`. Fails if the migrators' lock is lost.
pub(crate) async fn note_nothing(
    client: &Client,
    user: &str,
    key: &str,
    checksum: Checksum,
    version: &str,
) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO pgdb.migrations (key, sha256, outcome, version, applied_by, statements_done) \
         SELECT $1, $2, 'applied', $3, $4, 0 WHERE {}",
        lock::guard()
    );
    client.query("write the ledger", &sql, &[key, &checksum.hex(), version, user]).await.map(drop)
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

/// Takes what an unfinished row has done as the begin of the file as it is now: `repair`.
pub async fn set_progress(client: &Client, row: i64, checksum: Checksum, progress: &Progress) -> Result<(), PgError> {
    const SQL: &str = "UPDATE pgdb.migrations SET sha256 = $2, progress = $3::jsonb WHERE id = $1::bigint";
    let progress = serde_json::to_string(progress).unwrap_or_default();
    client.query("write the ledger", SQL, &[&row.to_string(), &checksum.hex(), &progress]).await.map(drop)
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
