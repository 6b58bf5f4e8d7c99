//! Findings, weighed by the tables that are there.

use super::{Bed, on_both};
use pgdb_pg::migrate::lint::{Setting, Severity, lint, weigh};

on_both!(a_lock_on_a_small_table_is_no_danger);
async fn a_lock_on_a_small_table_is_no_danger(bed: &Bed) {
    let client = bed.client().await;
    let fill = "CREATE TABLE small (id int, day date); CREATE TABLE \"Big\" (id int, day date, filler text);
        INSERT INTO \"Big\" SELECT n, now(), repeat('x', 1000) FROM generate_series(1, 20000) n";
    client.batch("fill", fill).await.expect("filled");
    let text = "CREATE INDEX ON small (day);\nCREATE INDEX ON \"Big\" (day);\nCREATE INDEX ON not_there (day);\n\
                CREATE INDEX ON \"not there\".\"at all\" (day);\nALTER TABLE small DROP COLUMN day;\n";
    let mut found = lint(text, Setting { major: client.major(), transaction: true });
    assert!(found.iter().take(4).all(|one| one.severity == Severity::Error), "{found:?}");
    // As the command does it, in a session that itself looks for names in pg_catalog only.
    let session = bed.session().await;
    weigh(session.client(), &mut found).await.expect("weighed");
    session.close().await;
    let severities: Vec<Severity> = found.iter().map(|one| one.severity).collect();
    let (note, error, warning) = (Severity::Note, Severity::Error, Severity::Warning);
    assert_eq!(severities, [note, error, note, note, warning], "{found:?}");
    assert!(found[0].message.contains("small is small"), "{found:?}");
    assert!(found[1].message.contains("\"Big\" takes"), "{found:?}");
    assert!(found[2].message.contains("is not there yet"), "{found:?}");
}

on_both!(long_locks_and_rewrites_are_weighed_by_what_is_written);
async fn long_locks_and_rewrites_are_weighed_by_what_is_written(bed: &Bed) {
    let client = bed.client().await;
    let fill = "CREATE TABLE small (id int); CREATE TABLE big (id int CHECK (id > 0), filler text);
        INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n;
        CREATE TABLE parted (id int, filler text) PARTITION BY RANGE (id);
        CREATE TABLE of_it PARTITION OF parted FOR VALUES FROM (0) TO (100000);
        INSERT INTO parted SELECT id, filler FROM big;
        CREATE TABLE old (LIKE parted); INSERT INTO old SELECT * FROM parted;
        CREATE VIEW between AS SELECT id FROM parted;
        CREATE MATERIALIZED VIEW rows_of_big AS SELECT count(*) FROM between;
        CREATE MATERIALIZED VIEW rows_of_small AS SELECT count(*) FROM small";
    client.batch("fill", fill).await.expect("filled");
    let (error, note) = (Severity::Error, Severity::Note);
    let weighed = [
        ("LOCK TABLE big IN SHARE MODE", error, "(big takes "),
        ("LOCK TABLE small", note, "(small is small: "),
        ("ALTER TABLE big ADD COLUMN n bigserial", error, "(big takes "),
        ("ALTER TABLE small ADD COLUMN n bigserial", note, "(small is small: "),
        ("ALTER TABLE not_there SET LOGGED", note, "(not_there is not there yet.)"),
        ("ALTER TABLE big SET UNLOGGED", error, "(big takes "),
        ("CLUSTER big USING by_id", error, "(big takes "),
        // The bytes of a partitioned table are its partitions'.
        ("ALTER TABLE parted ADD COLUMN n bigserial", error, "(parted and what is under it take "),
        ("CREATE INDEX ON parted (id)", error, "(parted and what is under it take "),
        ("CREATE INDEX ON ONLY parted (id)", note, "(parted is small: 0 kB.)"),
        ("LOCK TABLE ONLY parted", note, "(parted is small: 0 kB.)"),
        ("ALTER TABLE parted SET TABLESPACE fast", note, "(parted is small: 0 kB.)"),
        // A view of few rows may read many.
        ("REFRESH MATERIALIZED VIEW rows_of_big", error, "(rows_of_big and what is under it take "),
        ("REFRESH MATERIALIZED VIEW rows_of_small", note, "(rows_of_small and what is under it are small: "),
        ("ALTER TABLE parted ATTACH PARTITION old FOR VALUES IN (1)", error, "(old takes "),
        ("ALTER TABLE parted ATTACH PARTITION big FOR VALUES IN (1)", note, "but a CHECK may spare"),
        ("ALTER TABLE parted ATTACH PARTITION small FOR VALUES IN (1)", note, "(small is small: "),
    ];
    let session = bed.session().await;
    for (text, severity, words) in weighed {
        let mut found = lint(text, Setting { major: client.major(), transaction: true });
        assert!(matches!(found.as_slice(), [one] if one.severity == error), "{text}: {found:?}");
        weigh(session.client(), &mut found).await.expect("weighed");
        assert_eq!(found[0].severity, severity, "{text}: {found:?}");
        assert!(found[0].message.contains(words), "{text}: {found:?}");
    }
    session.close().await;
}

on_both!(what_is_said_of_locks_and_rewrites_is_what_postgresql_does);
async fn what_is_said_of_locks_and_rewrites_is_what_postgresql_does(bed: &Bed) {
    let client = bed.client().await;
    let make = "SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION '';
        CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
        CREATE TABLE t (a int, twice int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO t SELECT generate_series(1, 9);
        CREATE INDEX i ON t (a); CREATE MATERIALIZED VIEW v AS SELECT a FROM t;
        CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE c (a int)";
    // `CREATE TABLESPACE` does not run with others.
    for statement in make.split(';') {
        client.batch("make", statement).await.expect("made");
    }
    let cases = [
        ("LOCK TABLE t", "t", "explicit-lock", "AccessExclusiveLock"),
        ("LOCK TABLE t IN EXCLUSIVE MODE", "t", "explicit-lock", "ExclusiveLock"),
        ("LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE", "t", "explicit-lock", "ShareRowExclusiveLock"),
        ("LOCK TABLE t IN SHARE MODE", "t", "explicit-lock", "ShareLock"),
        ("REFRESH MATERIALIZED VIEW v", "v", "require-concurrent-refresh", "AccessExclusiveLock"),
        (
            "ALTER TABLE p ATTACH PARTITION c FOR VALUES FROM (1) TO (2)",
            "c",
            "attach-partition-scan",
            "AccessExclusiveLock",
        ),
        ("CLUSTER t USING i", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t SET UNLOGGED", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t SET LOGGED", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t SET ACCESS METHOD other", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t SET TABLESPACE fast", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER INDEX i SET TABLESPACE fast", "i", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER MATERIALIZED VIEW v SET TABLESPACE fast", "v", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t ADD COLUMN n bigserial", "t", "table-rewrite", "AccessExclusiveLock"),
        ("ALTER TABLE t ALTER COLUMN twice SET EXPRESSION AS (a * 3)", "t", "table-rewrite", "AccessExclusiveLock"),
        ("VACUUM FULL t", "t", "table-rewrite", ""),
    ];
    let since_17 = |text: &str| text.contains("SET EXPRESSION");
    for (text, name, rule, lock) in cases.into_iter().filter(|(text, ..)| client.major() >= 17 || !since_17(text)) {
        let found = lint(text, Setting { major: client.major(), transaction: !lock.is_empty() });
        let rules: Vec<&str> = found.iter().map(|one| one.rule.as_str()).collect();
        assert_eq!(rules, [rule], "{text}");
        let file = "SELECT pg_relation_filenode($1::text::regclass)::text";
        let held = "SELECT coalesce((SELECT string_agg(mode, ' ') FROM pg_locks
            WHERE relation = $1::text::regclass AND pid = pg_backend_pid()), '')";
        let ask = async |sql: &str| -> String { client.query("ask", sql, &[name]).await.expect("asked")[0].get(0) };
        let before = ask(file).await;
        if lock.is_empty() {
            client.batch("run", text).await.expect("run");
        } else {
            client.batch("run", &format!("BEGIN; {text}")).await.unwrap_or_else(|error| panic!("{text}: {error}"));
            let modes = ask(held).await;
            assert!(modes.split(' ').any(|mode| mode == lock), "{text}: {modes}");
            client.batch("end", "COMMIT").await.expect("ended");
        }
        assert_eq!(ask(file).await != before, rule == "table-rewrite" || name == "v", "{text}");
    }
}
