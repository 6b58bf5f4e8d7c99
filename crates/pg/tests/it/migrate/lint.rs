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
