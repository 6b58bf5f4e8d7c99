//! Statements that act outside the database that they run in: on roles, other databases, the whole server's settings, its
//! file system and programs, other servers.
//!
//! A drift check runs files again in a database that is thrown away, so such a statement must not run there: it would
//! change what is in use. It is known by its words. What a function, a trigger or a foreign table does cannot be seen in
//! the file, and is not; a `DO` block is, for what it runs is written in it.

use super::place::of_byte;
use super::split::{Kind, Statement, blank_words, split, words};
use pgdb_core::migration::file::File;
use serde::Serialize;

/// A statement that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The file, `schema/filename`.
    pub key: String,
    /// Where it begins, from 1.
    pub line: usize,
    /// What it is, such as `ALTER ROLE`.
    pub what: String,
}

/// What is shared by all databases of a server, as CREATE, ALTER and DROP name it.
const OBJECTS: [&str; 7] = ["role", "user", "group", "database", "tablespace", "system", "subscription"];
/// Functions that reach out of the database, and what the names of others begin with.
const FUNCTIONS: [&str; 17] = [
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_promote",
    "pg_switch_wal",
    "pg_create_",
    "pg_drop_replication_slot",
    "pg_copy_",
    "pg_replication_",
    "pg_wal_replay_",
    "pg_backup_",
    "pg_file_",
    "pg_stat_reset",
    "lo_export",
    "dblink",
    "pg_logical_slot_",
];

/// The file without what acts outside its database, and what was left out. A file that cannot be cut up is as it was: it
/// does not run either.
pub fn inside_only(file: &File) -> (File, Vec<Skipped>) {
    let mut kept = file.clone();
    let mut skipped = Vec::new();
    if let Ok(content) = &mut kept.content
        && let Ok(statements) = split(&content.sql)
    {
        for statement in &statements {
            let Some(what) = outside(&content.sql, statement) else { continue };
            let line = of_byte(&content.sql, statement.span.start).line;
            skipped.push(Skipped { key: file.key.to_string(), line, what });
            // Nothing moves, so that a failure elsewhere is told with its place.
            blank_words(&mut content.sql, statement.span.clone());
        }
    }
    (kept, skipped)
}

/// What a statement is, if it acts outside its database.
fn outside(sql: &str, statement: &Statement) -> Option<String> {
    let text = &sql[statement.span.clone()];
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = words(&lower).collect();
    by_words(&words).or_else(|| match words.first() {
        // A program in quotes: its words are looked at wherever they stand.
        Some(&"do") if statement.kind == Kind::Procedural => within_block(text),
        Some(&"create") if !makes_rows(&words) => None,
        _ => function(&words),
    })
}

/// CREATE TABLE … AS and CREATE MATERIALIZED VIEW. What else is defined does not run yet.
fn makes_rows(words: &[&str]) -> bool {
    let kinds = &words[1..words.len().min(5)];
    kinds.contains(&"materialized") || (kinds.contains(&"table") && words.contains(&"as"))
}

fn by_words(words: &[&str]) -> Option<String> {
    let told = |count: usize| Some(words[..count.min(words.len())].join(" ").to_ascii_uppercase());
    let has = |word: &str| words.contains(&word);
    match words {
        // A mapping belongs to the database.
        ["create" | "alter" | "drop", "user", "mapping", ..] => None,
        ["create" | "alter" | "drop", object, ..] if OBJECTS.contains(object) => told(2),
        ["comment", "on", "role" | "database" | "tablespace" | "subscription", ..] => told(3),
        ["security", "label", ..] if has("role") || has("database") || has("tablespace") => told(2),
        // Rights on what is shared, and membership, which is on nothing.
        ["grant" | "revoke", ..] if !has("on") => Some(format!("{} of a role", words[0].to_ascii_uppercase())),
        ["grant" | "revoke", rest @ ..] => {
            let on = rest.iter().position(|word| *word == "on")?;
            let object = rest.get(on + 1).filter(|object| ["database", "tablespace", "parameter"].contains(object))?;
            Some(format!("{} ON {}", words[0], object).to_ascii_uppercase())
        }
        // Databases are owned too.
        ["reassign" | "drop", "owned", ..] => told(2),
        ["copy", rest @ ..] => {
            let to = rest.windows(2).find(|pair| matches!(pair[0], "to" | "from") && pair[1] == "program");
            let file = rest.windows(2).find(|pair| pair[0] == "to" && is_string(pair[1]));
            match (to, file) {
                (Some(pair), _) => Some(format!("COPY {} PROGRAM", pair[0].to_ascii_uppercase())),
                (None, Some(_)) => Some("COPY TO a file".to_owned()),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

fn is_string(word: &str) -> bool {
    word.contains('\'') || word.starts_with('$')
}

/// The words of a block, in and out of quotes: what is put together from pieces is written somewhere in them.
fn within_block(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let is_sign = |c: char| !c.is_alphanumeric() && c != '_';
    // Each with the sign behind it, of which a parenthesis says that something is called.
    let parts = lower.split_inclusive(is_sign).flat_map(|part| {
        let word = part.trim_end_matches(is_sign);
        [word, if part.ends_with('(') { "(" } else { "" }]
    });
    let words: Vec<&str> = parts.filter(|word| !word.is_empty()).collect();
    let told = |what: &str| Some(format!("DO with {}", what.to_ascii_uppercase()));
    for (at, pair) in words.windows(2).enumerate() {
        let next = words.get(at + 2).copied().unwrap_or_default();
        match pair {
            [verb @ ("create" | "alter" | "drop"), object] if OBJECTS.contains(object) && next != "mapping" => {
                return told(&format!("{verb} {object}"));
            }
            ["reassign" | "drop", "owned"] | ["to" | "from", "program"] => return told(&pair.join(" ")),
            ["on", object @ ("database" | "tablespace" | "parameter")] => return told(&format!("on {object}")),
            // Membership: GRANT a TO b.
            [verb @ ("grant" | "revoke"), _] if matches!(next, "to" | "from") => {
                return told(&format!("{verb} {next}"));
            }
            _ => {}
        }
    }
    function(&words).map(|name| format!("DO with {name}"))
}

/// A function that reaches out of its database, and is called.
fn function(words: &[&str]) -> Option<String> {
    let reaches = |word: &str| FUNCTIONS.iter().any(|name| word.trim_matches('"').starts_with(name));
    let called = words.windows(2).find(|pair| pair[1] == "(" && reaches(pair[0]))?;
    Some(format!("{}()", called[0].trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgdb_core::migration::key::Key;

    fn skipped(sql: &str) -> Vec<String> {
        let file = File::new(Key::parse("a/1.sql").expect("a key"), sql.as_bytes().to_vec());
        let (kept, skipped) = inside_only(&file);
        let kept = kept.content.expect("text").sql;
        assert_eq!(kept.len(), sql.len());
        assert_eq!(skipped.is_empty(), kept == sql, "{kept}");
        skipped.into_iter().map(|skipped| format!("{}: {}", skipped.line, skipped.what)).collect()
    }

    #[test]
    fn what_acts_outside_its_database_is_found() {
        for (sql, what) in [
            ("ALTER ROLE app PASSWORD 'x';", "ALTER ROLE"),
            ("create /* a */ user app;", "CREATE USER"),
            ("DROP GROUP g;", "DROP GROUP"),
            ("ALTER SYSTEM SET work_mem = '1MB';", "ALTER SYSTEM"),
            ("ALTER DATABASE shop SET work_mem = '1MB';", "ALTER DATABASE"),
            ("CREATE TABLESPACE t LOCATION '/x';", "CREATE TABLESPACE"),
            ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p;", "CREATE SUBSCRIPTION"),
            ("COMMENT ON ROLE app IS 'x';", "COMMENT ON ROLE"),
            ("GRANT reader TO app;", "GRANT of a role"),
            ("REVOKE reader FROM app;", "REVOKE of a role"),
            ("GRANT CONNECT ON DATABASE shop TO app;", "GRANT ON DATABASE"),
            ("REASSIGN OWNED BY a TO b;", "REASSIGN OWNED"),
            ("DROP OWNED BY a;", "DROP OWNED"),
            ("COPY t TO PROGRAM 'mail x';", "COPY TO PROGRAM"),
            ("COPY (SELECT 1) TO '/etc/x';", "COPY TO a file"),
            ("COPY t FROM PROGRAM 'curl x';", "COPY FROM PROGRAM"),
            ("SELECT pg_reload_conf();", "pg_reload_conf()"),
            ("SELECT pg_catalog.pg_terminate_backend(1);", "pg_terminate_backend()"),
            ("SELECT \"dblink_exec\"('x', 'y');", "dblink_exec()"),
            ("DO $$ BEGIN IF true THEN CREATE ROLE app; END IF; END $$;", "DO with CREATE ROLE"),
            ("DO 'BEGIN EXECUTE format(''alter  role %I'', 1); END';", "DO with ALTER ROLE"),
            ("DO $$ BEGIN GRANT reader TO app; END $$;", "DO with GRANT TO"),
            ("DO $$ BEGIN PERFORM pg_reload_conf(); END $$;", "DO with pg_reload_conf()"),
            ("CREATE TABLE t AS SELECT * FROM dblink('x', 'y') d (a int);", "dblink()"),
        ] {
            assert_eq!(skipped(sql), [format!("1: {what}")], "{sql}");
        }
    }

    #[test]
    fn what_stays_inside_is_left_alone() {
        for sql in [
            "CREATE TABLE role (\"user\" text);",
            "CREATE USER MAPPING FOR app SERVER s;",
            "GRANT SELECT ON t TO app; GRANT USAGE ON SCHEMA s TO app;",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app;",
            "COMMENT ON TABLE t IS 'ALTER ROLE x';",
            "INSERT INTO t VALUES ('CREATE ROLE x');",
            "COPY t FROM stdin;\nALTER ROLE\n\\.\nSELECT 1;",
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT pg_reload_conf()';",
            "DO $$ BEGIN CREATE TABLE made (a int); GRANT SELECT ON made TO app; END $$;",
            "-- ALTER ROLE x;\nSELECT 1;",
            "DROP EXTENSION dblink;",
            "CREATE TABLE t (a bool DEFAULT pg_reload_conf());",
        ] {
            assert_eq!(skipped(sql), Vec::<String>::new(), "{sql}");
        }
        let both = "CREATE TABLE t ();\nALTER ROLE a;\nCREATE TABLE u ();\nALTER SYSTEM RESET ALL;";
        assert_eq!(skipped(both), ["2: ALTER ROLE", "4: ALTER SYSTEM"]);
    }
}
