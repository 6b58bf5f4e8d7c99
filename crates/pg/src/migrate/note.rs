//! The statements that write a file's row of the ledger inside its transaction, and what else stands around files.

use crate::error::PgError;
use crate::migrate::attempt::Noted;
use crate::migrate::held::{FIRST_OF_OTHERS, KNOWN, OLD, OPEN_MS, WEAK, known, strong};
use crate::migrate::ledger::locks_as_json;
use crate::migrate::lock;
use crate::quote;

/// Writes the row of a file inside its transaction, with what the transaction has locked, and gives its number and these
/// locks. Fails where the session has not got the migrators' lock any more, or something else lets no row be written: a file
/// can do either.
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
           WHERE seen.held = 1 RETURNING id, locks::text AS locks) \
         SELECT pg_catalog.max(id), pg_catalog.max(locks), NULL::bigint, {written} FROM noted",
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
/// - `_rows`: writes the row of a file that locks nothing that others wait for. Gives its number, as a column that is called
///   `name`, nothing for its locks, and for how many milliseconds its message was at work.
/// - `_looks`: the same with what the transaction has locked, if the transaction made no relations.
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
           RETURNING id AS {name}, NULL, took_ms; {looks}",
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
             AND c.oid OPERATOR(pg_catalog.=) l.relation AND {KNOWN} {before}))) RETURNING id AS {name}, locks, took_ms"
    )
}

/// SQL that has rows say what is known of them now, for how long things took: what was written is counted from the begin of a
/// message or a transaction.
pub(crate) fn correct_sql(rows: &[Noted]) -> Result<String, PgError> {
    let value = |noted: &Noted| {
        let number = |number: Option<i64>| number.map_or("NULL".to_owned(), |number| number.to_string());
        let took_ms = noted.took_ms.and_then(|ms| i64::try_from(ms).ok());
        let locks = quote::literal(&locks_as_json(&noted.locks))?;
        Ok(format!("({}, {}, {locks})", number(noted.id), number(took_ms)))
    };
    let values = rows.iter().map(value).collect::<Result<Vec<_>, PgError>>()?;
    Ok(format!(
        "UPDATE pgdb.migrations m SET took_ms = coalesce(v.ms::pg_catalog.int8, m.took_ms), locks = v.locks::pg_catalog.jsonb \
         FROM (VALUES {}) v (id, ms, locks) WHERE m.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8",
        values.join(", ")
    ))
}

/// What the statement `_turn` of [`prepare_plain_sql`] fails with, between quotation marks of PostgreSQL's.
pub(crate) const NOT_ITS_TURN: &str = "pgdb: it is not the turn of this file";

/// What [`note_sql`] fails with, between quotation marks of PostgreSQL's.
pub(crate) const NOT_NOTED: &str = "pgdb: the row is not there";

/// Prepares [`note_sql`] under a name, so that it is planned once: in a session whose search path is ours.
pub(crate) fn prepare_sql(name: &str) -> String {
    format!("PREPARE {name} (text, text, text) AS {}", note_sql())
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
