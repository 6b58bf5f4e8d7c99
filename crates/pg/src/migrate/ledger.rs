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

/// The modes that others have to wait for, from the weakest to the strongest.
pub(crate) const MODES: &str = "ARRAY['ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
     'AccessExclusiveLock']";

/// The others.
const WEAK: &str = "ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock']";

/// Whether a lock `l` is on a relation and of a mode that others have to wait for. Outside of its own database a session
/// locks only what all share.
fn strong() -> String {
    format!("l.granted AND l.locktype = 'relation' AND l.database <> 0 AND l.mode = ANY ({MODES})")
}

/// Whether a relation `c` is one that people know: a table or the like, and neither temporary nor ours. As all that stands
/// around plain files, it says of each type and operator that it is PostgreSQL's.
const KNOWN: &str = "c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'm', 'v', 'f']::pg_catalog.\"char\"[]) \
     AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog.\"char\" AND c.relnamespace OPERATOR(pg_catalog.<>) \
     coalesce(pg_catalog.to_regnamespace('pgdb'::pg_catalog.text)::pg_catalog.oid, 0::pg_catalog.oid)";

/// Whether the relation `oid` is known, there for longer than this session, and not PostgreSQL's. `old` picks the relations
/// `c` with the row types `t` that were there before.
fn known(oid: &str, old: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.pg_type t WHERE c.oid = {oid} AND t.oid = c.reltype \
         AND c.oid >= {FIRST_OF_OTHERS} AND {KNOWN} AND {old} OFFSET 0)"
    )
}

/// The first number that can be something else's than PostgreSQL's own (`FirstNormalObjectId` in its `access/transam.h`).
pub(crate) const FIRST_OF_OTHERS: u32 = 16384;

/// A query for the relations that a session has locked in modes that others have to wait for: what was there before, by
/// name, and the strongest mode of each, as its number. `of` picks the locks `l` of one session, `old` the relations `c`
/// with the row types `t` that were there before.
///
/// Relations are looked up for each lock and not joined, for a join reads all relations of a large database.
pub(crate) fn held(of: &str, old: &str) -> String {
    format!(
        "SELECT h.relation::pg_catalog.regclass::text AS relation, h.mode FROM \
         (SELECT l.relation, pg_catalog.max(pg_catalog.array_position({MODES}, l.mode)) AS mode \
          FROM pg_catalog.pg_locks l WHERE {of} AND {strong} GROUP BY 1 OFFSET 0) h WHERE {known}",
        strong = strong(),
        known = known("h.relation", old),
    )
}

/// What the query [`held`] gives, as the ledger keeps it. `ms` is for how long they were held.
pub(crate) fn held_as_json(held: &str, ms: &str) -> String {
    format!(
        "coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('relation', relation, 'held_ms', {ms}, \
         'mode', ({MODES})[mode]) ORDER BY relation) FROM ({held}) AS held), '[]')"
    )
}

/// What the session itself has locked in its transaction, but for relations that the transaction made: nobody can wait for
/// one.
pub(crate) fn held_here() -> String {
    held("l.pid = pg_catalog.pg_backend_pid()", OLD)
}

/// Whether a relation `c` with the row type `t` was there before this transaction. It is known by its column `tableoid`, which
/// is made with it and not changed later, or where there is none (views) by its row type, which changes with its name.
const OLD: &str = "pg_catalog.age(coalesce((SELECT a.xmin FROM pg_catalog.pg_attribute a \
       WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.=) '-6'::pg_catalog.int2), t.xmin)) \
     OPERATOR(pg_catalog.>) pg_catalog.age(pg_catalog.pg_current_xact_id()::pg_catalog.xid)";

/// For how many milliseconds the transaction is open.
pub(crate) const OPEN_MS: &str = "(pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.clock_timestamp() \
     OPERATOR(pg_catalog.-) pg_catalog.transaction_timestamp()) OPERATOR(pg_catalog.*) 1000::pg_catalog.float8)::pg_catalog.int8";

/// Writes the row of a file inside its transaction, with what the transaction has locked, and gives these locks. Fails where
/// the session has not got the migrators' lock any more, or something else lets no row be written: a file can do either.
///
/// It runs for every file: all that is wanted of `pg_locks` is taken from it in one pass, for that view goes through the
/// locks of all sessions each time, and a relation that is locked in several modes is told several times.
pub(crate) fn note_sql() -> String {
    let unless = |right: &str| format!("(CASE WHEN {right} THEN '1' ELSE '{NOT_NOTED}' END)::integer");
    format!(
        "WITH noted AS (INSERT INTO pgdb.migrations (key, sha256, outcome, took_ms, version, locks) \
           SELECT $1, $2, 'applied', seen.ms, $3, coalesce(seen.locks, '[]') FROM \
           (SELECT {OPEN_MS} AS ms, {held} AS held, \
              pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('relation', l.relation::pg_catalog.regclass::text, \
                'held_ms', {OPEN_MS}, 'mode', l.mode)) FILTER (WHERE CASE WHEN {strong} THEN {known} END) AS locks \
            FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() OFFSET 0) seen \
           WHERE seen.held = 1 RETURNING locks::text AS locks) \
         SELECT pg_catalog.max(locks), {written} FROM noted",
        held = unless(&format!("pg_catalog.bool_or({})", lock::is_migrators("l"))),
        strong = strong(),
        known = known("l.relation", OLD),
        written = unless("pg_catalog.count(*) = 1"),
    )
}

/// How a row is written, and what is given for that, by what stands around plain files.
const PLAIN_ROW: &str = "INSERT INTO pgdb.migrations (key, sha256, outcome, took_ms, version, locks)";
const PLAIN_ROW_OF: &str = "pg_catalog.text, pg_catalog.text, pg_catalog.text";

/// Prepares what stands around a plain file (`reach.rs`) in its message, under names that begin with `name`. Nothing that
/// such a file does can be in the way of its row.
///
/// - `_turn`: fails unless the session has a name, which the message before has given it with its last commit.
/// - `_first`: the same for the first file of a message; it also fails if somebody has made a function meanwhile.
/// - `_rows`: writes the row of a file that locks nothing that others wait for. Gives for how many milliseconds its message
///   was at work, as a column that is called `name`, and the row's number.
/// - `_looks`: the same with what the transaction has locked, as a third column, if the transaction made no relations.
///
/// They run with the search path that files have, so that each name, type and operator says that it is PostgreSQL's.
pub(crate) fn prepare_plain_sql(name: &str) -> String {
    let named = "pg_catalog.current_setting('application_name'::pg_catalog.text) OPERATOR(pg_catalog.=) $1";
    let no_code = format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) {FIRST_OF_OTHERS}::pg_catalog.oid)"
    );
    let unless = |right: &str| {
        format!(
            "SELECT WHERE (CASE WHEN {right} THEN '1' ELSE '{NOT_ITS_TURN}' END)::pg_catalog.int4 \
             OPERATOR(pg_catalog.=) 0::pg_catalog.int4"
        )
    };
    format!(
        "PREPARE {name}_turn (pg_catalog.text) AS {turn}; PREPARE {name}_first (pg_catalog.text) AS {first}; \
         PREPARE {name}_rows ({PLAIN_ROW_OF}) AS {PLAIN_ROW} VALUES ($1, $2, 'applied', {OPEN_MS}, $3, '[]') \
           RETURNING took_ms AS {name}, id; {looks}",
        turn = unless(named),
        first = unless(&format!("{named} AND {no_code}")),
        looks = prepare_look_sql(name, "looks", ""),
    )
}

/// Prepares `_looks_before`: the same as `_looks` for a file whose transaction made relations, which are left out.
pub(crate) fn prepare_look_before_sql(name: &str) -> String {
    let before = format!(
        "AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) c.reltype AND {OLD} OFFSET 0)"
    );
    prepare_look_sql(name, "looks_before", &before)
}

/// Weak modes are named, for there are fewer of them, and numbers are compared first: this runs for each lock of each
/// session.
fn prepare_look_sql(name: &str, suffix: &str, before: &str) -> String {
    format!(
        "PREPARE {name}_{suffix} ({PLAIN_ROW_OF}) AS {PLAIN_ROW} VALUES ($1, $2, 'applied', {OPEN_MS}, $3, \
           pg_catalog.to_jsonb(ARRAY(SELECT pg_catalog.jsonb_build_object('held_ms', {OPEN_MS}, 'mode', l.mode, 'relation', \
             c.relnamespace::pg_catalog.regnamespace::pg_catalog.text OPERATOR(pg_catalog.||) '.'::pg_catalog.text \
             OPERATOR(pg_catalog.||) pg_catalog.quote_ident(c.relname::pg_catalog.text)) \
             FROM pg_catalog.pg_locks l, pg_catalog.pg_class c \
             WHERE l.relation OPERATOR(pg_catalog.>=) {FIRST_OF_OTHERS}::pg_catalog.oid \
             AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() \
             AND l.mode OPERATOR(pg_catalog.<>) ALL ({WEAK}::pg_catalog.text[]) AND l.granted \
             AND l.locktype OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text \
             AND c.oid OPERATOR(pg_catalog.=) l.relation AND {KNOWN} {before}))) RETURNING took_ms AS {name}, id, locks"
    )
}

/// SQL that corrects for how long files took, rows by their numbers: what is written is counted from the begin of their message.
pub(crate) fn correct_sql(took: &[(i64, u64)]) -> String {
    let values: Vec<String> = took.iter().map(|(id, ms)| format!("({id}, {ms})")).collect();
    format!(
        "UPDATE pgdb.migrations m SET took_ms = v.ms, locks = coalesce((SELECT pg_catalog.jsonb_agg(l \
           OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('held_ms', least((l OPERATOR(pg_catalog.->>) \
             'held_ms'::pg_catalog.text)::pg_catalog.int8, v.ms))) FROM pg_catalog.jsonb_array_elements(m.locks) l), '[]') \
         FROM (VALUES {}) v (id, ms) WHERE m.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8",
        values.join(", ")
    )
}

/// What the statement `_turn` of [`prepare_plain_sql`] fails with, between quotation marks of PostgreSQL's.
pub(crate) const NOT_ITS_TURN: &str = "pgdb: it is not the turn of this file";

/// What [`note_sql`] fails with, between quotation marks of PostgreSQL's.
pub(crate) const NOT_NOTED: &str = "pgdb: the row is not there";

/// Throws away all that is prepared in a session.
pub(crate) const CLEAR: &str = "DEALLOCATE ALL; ";

/// Prepares [`note_sql`] under a name, so that it is planned once: in a session whose search path is ours.
pub(crate) fn prepare_sql(name: &str) -> String {
    format!("PREPARE {name} (text, text, text) AS {}", note_sql())
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
        Ok(rows) => Ok(Some(rows.iter().filter_map(parse).collect())),
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
        progress: text(12).and_then(|json| serde_json::from_str(json).ok()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// They run with the search path of files, which may begin with a schema where others make things.
    #[test]
    fn statements_around_plain_files_use_only_what_is_postgresqls() {
        let sql = format!("{}; {}", prepare_plain_sql("x"), prepare_look_before_sql("x"));
        let mut parts = sql.split("OPERATOR(pg_catalog.");
        let mut rest = parts.next().unwrap_or_default().to_owned();
        rest.extend(parts.filter_map(|part| Some(part.split_once(')')?.1)));
        assert!(!rest.contains(['=', '<', '>', '|', '*', '+', '~', '%']), "{rest}");
        let types: Vec<&str> = rest.split("::").skip(1).collect();
        assert!(types.len() > 20 && types.iter().all(|name| name.starts_with("pg_catalog.")), "{rest}");
        assert!(!rest.contains(" IN ") && !rest.contains(" LIKE "));
    }
}
