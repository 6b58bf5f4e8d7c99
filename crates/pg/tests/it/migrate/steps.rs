//! Files without a transaction.

use super::{Bed, file, on_both, options, word};
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::run::run;

on_both!(what_cannot_be_in_a_transaction_runs_by_itself);
on_both!(what_was_done_stays_and_the_rest_is_made_up_for);
on_both!(an_invalid_index_is_told_and_made_anew);

async fn what_cannot_be_in_a_transaction_runs_by_itself(bed: &Bed) {
    let files = [
        file(
            "a/1.sql",
            "CREATE TABLE t (a int); CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); END $$;",
        ),
        file(
            "a/2.sql",
            "-- pgdb: no-transaction\nVACUUM t; CREATE INDEX CONCURRENTLY i ON t (a); REINDEX INDEX CONCURRENTLY i; CALL p();\nDROP INDEX CONCURRENTLY i;",
        ),
        file(
            "a/3.sql",
            "-- migrate:up transaction:false\nALTER SYSTEM SET log_min_duration_statement = '10s';\n-- migrate:down\nDROP TABLE t;",
        ),
        file(
            "a/4.sql",
            "-- no-transaction\nBEGIN; INSERT INTO t VALUES (3); COMMIT;\nBEGIN; INSERT INTO t VALUES (4); ROLLBACK;\nCOPY t FROM STDIN;\n5\n\\.\nCREATE DATABASE beside;",
        ),
        file("a/5.sql", "-- no-transaction\n"),
    ];
    bed.run(&files).await;
    assert_eq!(bed.ask("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").await, "1 2 3 5");
    let rows =
        "SELECT string_agg(outcome || coalesce(statements_done::text, '-'), ' ' ORDER BY id) FROM pgdb.migrations";
    assert_eq!(bed.ask(rows).await, "applied- applied5 applied1 applied8 applied0");
    let open = bed.fail(&with(&files, "a/6.sql", "-- no-transaction\nBEGIN; INSERT INTO t VALUES (6);\n")).await;
    assert!(open.message.contains("COMMIT is missing"), "{open}");
    let discard = bed.fail(&with(&files, "a/6.sql", "-- no-transaction\nDISCARD ALL;")).await;
    assert!(discard.message.contains("DISCARD ALL"), "{discard}");
    assert_eq!(bed.ask("SELECT count(*)::text FROM t WHERE a = 6").await, "0");
}

async fn what_was_done_stays_and_the_rest_is_made_up_for(bed: &Bed) {
    let text = "-- no-transaction\nCREATE TABLE log (n int);\nINSERT INTO log VALUES (1);\nINSERT INTO log SELECT 2 FROM later;\nBEGIN;\nINSERT INTO log VALUES (3);\nINSERT INTO log SELECT 4 FROM latest;\nCOMMIT;\n";
    let files = [file("a/1.sql", text)];
    let failure = bed.fail(&files).await;
    assert_eq!((failure.line, failure.statement), (Some(4), Some(3)), "{failure}");
    assert!(failure.aftermath.contains("first 2 statements are done"), "{failure}");
    let client = bed.client().await;
    client.batch("mend", "CREATE TABLE later AS SELECT 1").await.expect("mended");
    let failure = bed.fail(&files).await;
    assert_eq!(failure.line, Some(7), "{failure}");
    assert_eq!(bed.ask("SELECT string_agg(n::text, ' ' ORDER BY n) FROM log").await, "1 2");
    client.batch("mend", "CREATE TABLE latest AS SELECT 1").await.expect("mended");
    client.close().await;
    bed.run(&files).await;
    assert_eq!(bed.ask("SELECT string_agg(n::text, ' ' ORDER BY n) FROM log").await, "1 2 3 4");
    assert_eq!(
        bed.ask("SELECT count(*) || max(outcome) || ' ' || max(error) FROM pgdb.migrations").await,
        "1applied line 7, column 31: relation \"latest\" does not exist (SQLSTATE 42P01)",
        "what it failed with stays"
    );
}

async fn an_invalid_index_is_told_and_made_anew(bed: &Bed) {
    let files = [
        file("a/1.sql", "CREATE SCHEMA \"S\"; CREATE TABLE \"S\".t (a int); INSERT INTO \"S\".t VALUES (1), (1);"),
        file("a/2.sql", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"I\" ON \"S\".t (a);"),
    ];
    let failure = bed.fail(&files).await;
    assert_eq!(failure.sqlstate.as_deref(), Some("23505"));
    assert!(failure.aftermath.contains("left the invalid index \"S\".\"I\""), "{failure}");
    let state = "SELECT string_agg(indisvalid::text, ',') FROM pg_index WHERE indrelid = '\"S\".t'::regclass";
    assert_eq!(bed.ask(state).await, "false");
    bed.client().await.batch("mend", "DELETE FROM \"S\".t").await.expect("mended");
    let mut heard = Vec::new();
    let mut session = bed.session().await;
    let report = run(&mut session, &files, &options(), &mut |event| heard.extend(word(&event))).await.expect("a run");
    session.close().await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(heard.iter().any(|word| word.contains("left the invalid index \"S\".\"I\"; it is dropped")), "{heard:?}");
    assert_eq!(bed.ask(state).await, "true");
}

fn with(files: &[File], key: &str, text: &str) -> Vec<File> {
    [files, &[file(key, text)]].concat()
}
