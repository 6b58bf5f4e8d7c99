//! How far a file can reach, as far as its words tell.
//!
//! Most files make, change or fill relations and do nothing else. In a database where nobody has code of their own
//! (functions, and so triggers, operators, procedures) such a file cannot touch the session that it runs in: its settings, what is
//! prepared there, the migrators' lock. What is around it can be less then, see `ahead.rs`. In doubt a file is none of
//! these, and a database is one where somebody has code.

use crate::migrate::held::FIRST_OF_OTHERS;
use crate::migrate::split::{Kind, Outer, Statement, words};

/// A file that makes, changes or fills relations, and does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Whether it may lock what was there in a mode that others have to wait for. What only writes rows, or makes what
    /// refers to nothing, does not.
    pub(crate) locks: bool,
    /// Whether it makes relations that are not there before it.
    pub(crate) makes: bool,
    /// Whether it may ask for the time at which its transaction began, or make what does.
    pub(crate) tells_time: bool,
    /// Whether it may have a name that is too long, of which the server tells when it reads a message, and not when it
    /// comes to the file.
    pub(crate) is_long: bool,
}

/// What is kept in a database, as far as plain files can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing that could be in the way.
    Nothing,
    /// Something that asks for the time at which a transaction began.
    TellsTime,
    /// Somebody's code, or what can do anything.
    Code,
}

impl Kept {
    /// From the answer to [`kept_sql`].
    pub(crate) fn of(answer: Option<&str>) -> Self {
        match answer {
            Some("nothing") => Self::Nothing,
            Some("time") => Self::TellsTime,
            _ => Self::Code,
        }
    }
}

/// Words behind which there may be anything, and what such words begin with: PostgreSQL's own functions that act on the
/// session or run text as SQL, what belongs to the session, and the ledger.
const ANYTHING: [&str; 7] = ["temp", "temporary", "pgdb", "execute", "set_config", "ts_stat", "ts_rewrite"];
const ANYTHING_FROM: [&str; 2] = ["migrations", "$"];
const FUNCTIONS_FROM: [&str; 3] = ["pg_", "brin_", "gin_"];
/// What is in each word with which SQL asks for the time at which a transaction began (but for a constant, which is made
/// when it is read: `'today'`), and maybe in others.
const TIME: [&str; 9] =
    ["now", "current_date", "current_time", "localtime", "_timestamp", "age", "today", "tomorrow", "yesterday"];
/// How many bytes a name has at most (`NAMEDATALEN` in PostgreSQL's `pg_config_manual.h`).
const LONGEST_NAME: usize = 63;
/// How a name or a string begins that is written in numbers of characters.
const IN_NUMBERS: [&str; 2] = ["u&\"", "u&'"];
/// With these a relation that is made refers to one that was there.
const REFERRING: [&str; 4] = ["references", "partition", "inherits", "of"];
/// Bytes of the views, rules, defaults and constraints of a database from which on nobody looks through them.
const TOO_MUCH: u32 = 4 << 20;

/// SQL for whether somebody has code in the database: functions, operators, rules. NULL where there is nothing at all that
/// could call any. To be asked with a search path that is ours, as the other one.
pub(crate) fn code_sql() -> String {
    let others = format!(">= {FIRST_OF_OTHERS}");
    format!(
        "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid {others}) \
           OR EXISTS (SELECT FROM pg_catalog.pg_operator WHERE oid {others}) \
           OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE oid {others} AND ev_type <> '1') THEN true \
         WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid {others} \
             AND relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname IN ('pgdb', 'pg_toast'))) \
           OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid {others} AND typtype = 'd') THEN false END"
    )
}

/// SQL for what is kept in the database (views, defaults, constraints, policies, indexes): `code` where it calls one of
/// PostgreSQL's own functions behind which there may be anything, or where there is too much to look through; `time` where
/// it asks for that of a transaction's begin; else `nothing`.
pub(crate) fn kept_sql() -> String {
    let named: Vec<String> = ANYTHING.iter().map(|word| format!("'{word}'")).collect();
    let others = format!(">= {FIRST_OF_OTHERS}");
    format!(
        "CASE WHEN pg_catalog.pg_table_size('pg_catalog.pg_rewrite') + pg_catalog.pg_table_size('pg_catalog.pg_attrdef') \
             + pg_catalog.pg_table_size('pg_catalog.pg_constraint') < {TOO_MUCH} THEN (SELECT \
             CASE WHEN pg_catalog.bool_or(tree ~ calls.risky) THEN 'code' \
               WHEN pg_catalog.bool_or(tree ~ (calls.time || '|SQLVALUEFUNCTION|COERCEVIAIO')) THEN 'time' \
               ELSE 'nothing' END FROM \
           (SELECT ev_action::text AS tree FROM pg_catalog.pg_rewrite WHERE oid {others} \
            UNION ALL SELECT adbin::text FROM pg_catalog.pg_attrdef \
            UNION ALL SELECT conbin::text FROM pg_catalog.pg_constraint WHERE oid {others} \
            UNION ALL SELECT typdefaultbin::text FROM pg_catalog.pg_type WHERE oid {others} \
            UNION ALL SELECT pg_catalog.concat(indexprs, indpred) FROM pg_catalog.pg_index WHERE indexrelid {others} \
            UNION ALL SELECT pg_catalog.concat(polqual, polwithcheck) FROM pg_catalog.pg_policy \
            UNION ALL SELECT tgqual::text FROM pg_catalog.pg_trigger) kept, \
           (SELECT ':(funcid|relid) (' || pg_catalog.string_agg(oid::text, '|') FILTER (WHERE risky) || ') ' AS risky, \
              ':(funcid|relid) (' || pg_catalog.string_agg(oid::text, '|') FILTER (WHERE NOT risky) || ') ' AS time FROM \
             (SELECT oid, risky FROM (SELECT oid, proname, \
                provolatile = 'v' AND (proname IN ({named}) OR proname ~ '^({from})|xml') AS risky FROM pg_catalog.pg_proc) own \
                WHERE risky OR proname IN ({time}) \
              UNION ALL SELECT 'pg_catalog.pg_settings'::pg_catalog.regclass::pg_catalog.oid, true \
              UNION ALL SELECT 'pg_catalog.pg_stat_activity'::pg_catalog.regclass::pg_catalog.oid, false) functions) calls) \
         ELSE 'code' END",
        named = named.join(", "),
        from = FUNCTIONS_FROM.join("|"),
        time =
            "'now', 'transaction_timestamp', 'statement_timestamp', 'age', 'timestamptz_in', 'timestamp_in', 'date_in'",
    )
}

impl Plain {
    /// What is known of a file from its statements; `None` if it may do anything.
    pub(crate) fn of(sql: &str, statements: &[Statement], outer: Option<&Outer>) -> Option<Self> {
        let inner = match outer {
            Some(outer) if !outer.modes.is_empty() => return None,
            Some(_) => statements.get(1..statements.len().saturating_sub(1))?,
            None => statements,
        };
        let mut plain = Self { locks: false, makes: false, tells_time: false, is_long: false };
        for statement in inner {
            if statement.kind != Kind::Other {
                return None;
            }
            let text = sql[statement.span.clone()].to_ascii_lowercase();
            // Quoted or not: only more is taken for one of our words than is one.
            let words: Vec<&str> = words(&text).map(|word| word.trim_matches('"')).collect();
            if IN_NUMBERS.iter().any(|begin| text.contains(begin)) || words.iter().any(|word| may_be_anything(word)) {
                return None;
            }
            plain.locks |= locks(&words)?;
            plain.makes |= makes(&words);
            plain.tells_time |= words.iter().any(|word| tells_time(word));
            plain.is_long |= words.iter().any(|word| word.len() > LONGEST_NAME && !word.starts_with('\''));
        }
        Some(plain)
    }
}

fn may_be_anything(word: &str) -> bool {
    let begins = |begin: &&str| word.starts_with(begin);
    // Up to PostgreSQL 14 a number ends where a word begins without a space: `1REFERENCES`.
    let is_glued = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(|c: char| c.is_ascii_alphabetic());
    ANYTHING.contains(&word)
        || ANYTHING_FROM.iter().chain(&FUNCTIONS_FROM).any(begins)
        || word.contains("xml")
        || is_glued
}

/// Whether a word may ask for the time; one written with escapes may be anything.
fn tells_time(word: &str) -> bool {
    TIME.iter().any(|part| word.contains(part)) || (word.starts_with("e'") && word.contains('\\'))
}

/// Whether a statement may lock what was there in a mode that others have to wait for; `None` if it may do anything.
fn locks(words: &[&str]) -> Option<bool> {
    let refers = || words.iter().any(|word| REFERRING.contains(word));
    match words {
        ["insert" | "update" | "delete" | "select" | "values" | "with", ..] => Some(false),
        ["create", "table", ..] | ["create", "unlogged", "table", ..] => Some(refers()),
        ["create", "view", ..] => Some(false),
        ["create", "or", "replace", "view", ..] | ["create", "unique", "index", ..] => Some(true),
        ["create", "index" | "type" | "domain" | "sequence" | "schema" | "materialized", ..] => Some(true),
        ["alter" | "drop", "table" | "index" | "view" | "sequence" | "type" | "domain" | "materialized", ..] => {
            Some(true)
        }
        ["comment" | "truncate" | "grant" | "revoke", ..] => Some(true),
        _ => None,
    }
}

/// Whether it makes something that can be queried, as far as that is not hidden in a schema's making.
fn makes(words: &[&str]) -> bool {
    match words {
        ["create", rest @ ..] => rest.iter().any(|word| ["table", "view", "schema"].contains(word)),
        ["insert", ..] => false,
        // SELECT … INTO.
        words => words.contains(&"into"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::split::{outer, split};

    /// `rows`, `relations` or `anything`, and `made`.
    fn told(sql: &str) -> String {
        let statements = split(sql).expect(sql);
        match Plain::of(sql, &statements, outer(sql, &statements).as_ref()) {
            None => "anything".to_owned(),
            Some(plain) => {
                let what = if plain.locks { "relations" } else { "rows" };
                let made = if plain.makes { " made" } else { "" };
                format!("{what}{made}")
            }
        }
    }

    #[test]
    fn what_files_do_is_told_by_their_words() {
        for (sql, expected) in [
            ("", "rows"),
            ("-- nothing\n", "rows"),
            ("CREATE TABLE t (id int PRIMARY KEY, name text DEFAULT now());", "rows made"),
            ("create unlogged table t ();", "rows made"),
            ("INSERT INTO t VALUES (1); UPDATE t SET a = 2; DELETE FROM t; SELECT * FROM t;", "rows"),
            ("UPDATE t SET a = 2; DELETE FROM t; SELECT * FROM t; VALUES (1);", "rows"),
            ("WITH a AS (SELECT 1) UPDATE t SET b = 1;", "rows"),
            ("CREATE VIEW v AS SELECT 1;", "rows made"),
            ("BEGIN; CREATE VIEW v AS SELECT 1; COMMIT;", "rows made"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1;", "relations made"),
            ("CREATE TABLE t (a int REFERENCES u);", "relations made"),
            ("CREATE TABLE t PARTITION OF u DEFAULT;", "relations made"),
            ("ALTER TABLE t ADD COLUMN b int; INSERT INTO t VALUES (1);", "relations"),
            ("CREATE UNIQUE INDEX i ON t (a);", "relations"),
            ("COMMENT ON TABLE t IS 'pgdb';", "relations"),
            ("CREATE TABLE IF NOT EXISTS t ();", "rows made"),
            ("SELECT a INTO t FROM u;", "rows made"),
            ("CREATE TABLE t (); CREATE INDEX ON t (a);", "relations made"),
            ("DROP TABLE t CASCADE;", "relations"),
            ("GRANT SELECT ON t TO app;", "relations"),
        ] {
            assert_eq!(told(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_may_reach_the_session_may_do_anything() {
        for sql in [
            "SET lock_timeout = 0;",
            "RESET ALL;",
            "SELECT set_config('a.b', 'c', false);",
            "SELECT SET_CONFIG('a.b', 'c', false);",
            "SELECT \"set_config\"('a.b', 'c', false);",
            "SELECT U&\"set\\005fconfig\"('a.b', 'c', false);",
            "SELECT U&'\\006eow'::timestamptz;",
            "SELECT pg_advisory_unlock_all();",
            "SELECT pg_catalog.pg_advisory_unlock_all();",
            "CREATE TEMP TABLE t ();",
            "CREATE TABLE pg_temp.t ();",
            "SELECT 1 INTO TEMP t;",
            "DELETE FROM pgdb.migrations;",
            "ALTER TABLE migrations ADD COLUMN a int;",
            "DROP SEQUENCE migrations_id_seq;",
            "PREPARE a AS SELECT 1; EXECUTE a;",
            "CREATE TABLE t AS EXECUTE a;",
            "DEALLOCATE ALL;",
            "SELECT query_to_xml('SET a.b = 1', true, true, '');",
            "SELECT * FROM ts_stat('SELECT a FROM b');",
            "LISTEN a;",
            "NOTIFY a;",
            "DO $$ BEGIN END $$;",
            "CALL p();",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
            "CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION f();",
            "CREATE EXTENSION citext;",
            "CREATE SCHEMA s CREATE TEMP TABLE t ();",
            "LOCK TABLE t;",
            "SAVEPOINT s;",
            "COPY t FROM '/tmp/t';",
            "COPY t FROM stdin;\n\\.\n",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE t (); COMMIT;",
            "EXPLAIN ANALYZE SELECT 1;",
            "ALTER ROLE app SET search_path = x;",
            "this is no SQL",
            "CREATE TABLE t (a int DEFAULT 1REFERENCES u);",
        ] {
            assert_eq!(told(sql), "anything", "{sql}");
        }
    }
}
