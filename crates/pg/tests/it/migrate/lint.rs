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
