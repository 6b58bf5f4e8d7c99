//! Findings, weighed by the tables that are there.

use super::{Bed, on_both};
use pgdb_pg::error::PgError;
use pgdb_pg::migrate::lint::{Setting, Severity, lint, weigh};
use std::time::Duration;

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
        CREATE MATERIALIZED VIEW rows_of_small AS SELECT count(*) FROM small;
        CREATE INDEX of_big ON big (id); CREATE INDEX of_small ON small (id); CREATE INDEX of_parted ON parted (id);
        CREATE TABLE by_text (id int, filler text) PARTITION BY LIST (filler);
        CREATE TABLE by_both (id int, filler text) PARTITION BY RANGE (id, filler);
        CREATE TABLE by_sum (id int, filler text) PARTITION BY RANGE ((id + 1));
        CREATE TABLE unproved (LIKE big); INSERT INTO unproved SELECT * FROM big;
        ALTER TABLE unproved ADD CHECK (id > 0) NOT VALID";
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
        // One that says nothing of the key, of all of it, or of the rows that were there before it.
        ("ALTER TABLE by_text ATTACH PARTITION big FOR VALUES IN ('a')", error, "(big takes "),
        ("ALTER TABLE by_both ATTACH PARTITION big DEFAULT", error, "(big takes "),
        ("ALTER TABLE by_sum ATTACH PARTITION big DEFAULT", error, "(big takes "),
        ("ALTER TABLE not_there ATTACH PARTITION big DEFAULT", error, "(big takes "),
        ("ALTER TABLE parted ATTACH PARTITION unproved DEFAULT", error, "(unproved takes "),
        ("ALTER TABLE parted ATTACH PARTITION small FOR VALUES IN (1)", note, "(small is small: "),
        // What an index locks is its table.
        ("DROP INDEX of_big", error, "(the table of of_big takes "),
        ("DROP INDEX public.of_small", note, "(the table of public.of_small is small: "),
        ("DROP INDEX of_parted", error, "(the table of of_parted and what is under it take "),
        ("DROP INDEX not_there", note, "(not_there is not there yet.)"),
        ("REINDEX INDEX of_big", error, "(the table of of_big takes "),
        ("REINDEX INDEX of_small", note, "(the table of of_small is small: "),
        ("ALTER INDEX of_small SET TABLESPACE fast", note, "(of_small is small: "),
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

on_both!(what_fails_with_a_row_is_lowered_only_where_there_is_none);
async fn what_fails_with_a_row_is_lowered_only_where_there_is_none(bed: &Bed) {
    let client = bed.client().await;
    let fill = "CREATE TABLE one (a int); INSERT INTO one VALUES (1); CREATE TABLE none (a int);
        CREATE SCHEMA \"S h\"; CREATE TABLE \"S h\".\"O\"\"ne\" (a int); INSERT INTO \"S h\".\"O\"\"ne\" VALUES (1);
        CREATE TABLE parted (a int) PARTITION BY LIST (a); CREATE TABLE of_it PARTITION OF parted FOR VALUES IN (1);
        INSERT INTO parted VALUES (1)";
    client.batch("fill", fill).await.expect("filled");
    let session = bed.session().await;
    for (make, table, severity, words) in [
        ("", "one", Severity::Error, "(one has rows.)"),
        ("", "\"S h\".\"O\"\"ne\"", Severity::Error, "has rows.)"),
        ("", "parted", Severity::Error, "(parted has rows.)"),
        ("", "none", Severity::Note, "(none has no row.)"),
        ("", "not_there", Severity::Note, "(not_there is not there yet.)"),
        // The file brings the row along.
        ("CREATE TABLE copied AS SELECT 1 AS a; ", "copied", Severity::Error, "required."),
    ] {
        let add = format!("{make}ALTER TABLE {table} ADD COLUMN need int NOT NULL");
        let mut found = lint(&add, Setting { major: client.major(), transaction: true });
        weigh(session.client(), &mut found).await.expect("weighed");
        assert!(matches!(found.as_slice(), [one] if one.rule == "adding-required-field"), "{add}: {found:?}");
        assert_eq!(found[0].severity, severity, "{add}: {found:?}");
        assert!(found[0].message.ends_with(words), "{add}: {found:?}");
        if !words.contains("not there") {
            let run = client.batch("run", &format!("BEGIN; {add}; ROLLBACK")).await;
            let fails = severity == Severity::Error;
            assert_eq!(run.as_ref().err().and_then(PgError::sqlstate), fails.then_some("23502"), "{add}: {run:?}");
            client.batch("end", "ROLLBACK").await.expect("ended");
        }
    }
    session.close().await;
}

on_both!(defaults_are_told_that_write_the_table_anew);
async fn defaults_are_told_that_write_the_table_anew(bed: &Bed) {
    let client = bed.client().await;
    let make = "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE SEQUENCE s; CREATE FUNCTION ours() RETURNS int \
                LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'";
    client.batch("make", make).await.expect("made");
    for default in [
        "-1",
        "(0)",
        "CURRENT_DATE",
        "LOCALTIMESTAMP(3)",
        "current_user",
        "(now() AT TIME ZONE 'utc')",
        "timezone('utc', now())",
        "pg_catalog.lower('X')",
        "coalesce(NULL, greatest('a', upper('b')))",
        "make_interval(days => 3)",
        "random()",
        "- random()",
        "(clock_timestamp())",
        "gen_random_uuid()",
        "md5(random()::text)",
        "nextval('s')",
        "ours()",
    ] {
        let node = async || bed.ask("SELECT pg_relation_filenode('t')::text").await;
        let before = node().await;
        let add = format!("ALTER TABLE t ADD COLUMN x text DEFAULT {default}");
        client.batch("run", &format!("ALTER TABLE t DROP COLUMN IF EXISTS x; {add}")).await.expect(default);
        let told = !lint(&add, Setting { major: client.major(), transaction: true }).is_empty();
        assert_eq!(told, node().await != before, "{default}");
    }
    // A name that is ever volatile is taken for it.
    let names = "SELECT DISTINCT proname::text FROM pg_proc WHERE provolatile = 'v' AND pronamespace = 'pg_catalog'::regnamespace";
    for row in client.query("ask", names, &[]).await.expect("asked") {
        let add = format!("ALTER TABLE t ADD COLUMN x text DEFAULT {}('a')", row.get::<_, &str>(0));
        let found = lint(&add, Setting { major: client.major(), transaction: true });
        assert!(matches!(found.as_slice(), [one] if one.rule == "adding-field-with-default"), "{add}: {found:?}");
    }
}

on_both!(a_check_that_says_not_null_spares_the_reading);
async fn a_check_that_says_not_null_spares_the_reading(bed: &Bed) {
    let client = bed.client().await;
    let make = "CREATE TABLE big (\"X y\" int, a int, b int, c int, d int, filler text);
        INSERT INTO big SELECT n, n, n, n, n, repeat('x', 1000) FROM generate_series(1, 20000) n;
        ALTER TABLE big ADD CHECK (\"X y\" IS NOT NULL), ADD CHECK (a IS NOT NULL) NOT VALID,
            ADD CHECK (b IS NOT NULL OR a > 1), ADD CHECK (c > 0), ADD CHECK (d IS NOT NULL) NO INHERIT";
    client.batch("make", make).await.expect("made");
    let session = bed.session().await;
    for (column, severity) in [
        ("\"X y\"", Severity::Note),
        ("a", Severity::Error),
        ("b", Severity::Error),
        ("c", Severity::Error),
        ("d", Severity::Error),
        ("not_there", Severity::Error),
    ] {
        let set = format!("ALTER TABLE big ALTER COLUMN {column} SET NOT NULL");
        let mut found = lint(&set, Setting { major: client.major(), transaction: true });
        weigh(session.client(), &mut found).await.expect("weighed");
        assert!(matches!(found.as_slice(), [one] if one.severity == severity), "{set}: {found:?}");
        assert_eq!(found[0].message.contains("but its CHECK spares"), severity == Severity::Note, "{set}: {found:?}");
    }
    session.close().await;
}

on_both!(a_table_that_is_locked_is_not_waited_for);
async fn a_table_that_is_locked_is_not_waited_for(bed: &Bed) {
    let client = bed.client().await;
    let make = "CREATE TABLE held (id int); CREATE TABLE free (id int)";
    client.batch("make", make).await.expect("made");
    client.batch("lock", "BEGIN; LOCK TABLE held").await.expect("locked");
    let text = "CREATE INDEX ON held (id);\nALTER TABLE held ADD COLUMN n int NOT NULL;\nCREATE INDEX ON free (id);\n";
    let mut found = lint(text, Setting { major: client.major(), transaction: true });
    let session = bed.session().await;
    let weighed = tokio::time::timeout(Duration::from_secs(30), weigh(session.client(), &mut found)).await;
    weighed.expect("it does not wait").expect("weighed");
    session.close().await;
    client.batch("end", "ROLLBACK").await.expect("ended");
    let severities: Vec<Severity> = found.iter().map(|one| one.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Error, Severity::Note], "{found:?}");
    assert!(found[..2].iter().all(|one| one.message.ends_with("(held could not be measured.)")), "{found:?}");
}

on_both!(what_refuses_a_transaction_is_told);
async fn what_refuses_a_transaction_is_told(bed: &Bed) {
    let client = bed.client().await;
    let make = "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE \"C\" PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE t (a int); CREATE INDEX i ON t (a)";
    client.batch("make", make).await.expect("made");
    for (text, expected) in [
        ("ALTER TABLE ONLY public.p DETACH PARTITION \"C\" CONCURRENTLY", true),
        ("ALTER TABLE p DETACH PARTITION \"C\"", false),
        ("CLUSTER", true),
        ("CLUSTER VERBOSE", true),
        ("CLUSTER t USING i", false),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=localhost' PUBLICATION p", true),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=localhost' PUBLICATION p WITH (connect = false)", false),
    ] {
        let found = lint(text, Setting { major: client.major(), transaction: true });
        assert_eq!(found.iter().any(|one| one.rule == "needs-no-transaction"), expected, "{text}: {found:?}");
        let run = client.batch("run", &format!("BEGIN; {text}")).await;
        assert_eq!(run.as_ref().err().and_then(PgError::sqlstate), expected.then_some("25001"), "{text}: {run:?}");
        client.batch("end", "ROLLBACK").await.expect("ended");
    }
}
