//! What a failure tells, and that it leaves nothing.

use super::{Bed, file, on_both, options};
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::run::Options;

on_both!(a_failure_has_its_place_and_leaves_nothing);
on_both!(what_cannot_be_one_transaction_is_told_before_it_runs);
on_both!(a_failure_is_kept_in_the_ledger_and_counted);
on_both!(without_stopping_the_others_run);

async fn a_failure_has_its_place_and_leaves_nothing(bed: &Bed) {
    let text = "CREATE TABLE kept (a int);\nINSERT INTO kept VALUES (1);\nINSERT INTO kept\n\tSELECT größe, missing FROM kept;\nSELECT 1;";
    let failure = bed.fail(&[file("gcp/001_x.sql", text)]).await;
    assert_eq!((failure.line, failure.column, failure.statement), (Some(4), Some(9), Some(3)), "{failure:#?}");
    let shown = failure.to_string();
    let expected = "gcp/001_x.sql:4:9: column \"größe\" does not exist (SQLSTATE 42703)\n 4 | \tSELECT größe, missing FROM kept;\n   | \t       ^\n";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.ends_with("what its first 2 statements did was rolled back"), "{shown}");
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('kept')::text, 'none')").await, "none");

    // Without a position the statement is what was at work.
    let text = "-- first\nSELECT 1;\n\nBEGIN_IS_NO_WORD();";
    assert_eq!(bed.fail(&[file("a/1.sql", text)]).await.line, Some(4));
    let text = "SELECT 1; SELECT 2;\n -- here\n SELECT 1/(SELECT 0);\nSELECT 3;";
    let failure = bed.fail(&[file("a/1.sql", text)]).await;
    assert_eq!((failure.line, failure.column, failure.statement), (Some(3), None, Some(3)), "{failure:#?}");
    let outer = bed.fail(&[file("a/1.sql", &format!("BEGIN;\n{text}\nCOMMIT;"))]).await;
    assert_eq!((outer.line, outer.statement), (Some(4), Some(4)), "{outer:#?}");
    // At the end of the text, in a COPY's data, at the COMMIT.
    assert_eq!(bed.fail(&[file("a/1.sql", "SELECT 1;\nSELECT (")]).await.line, Some(2));
    let copy = "CREATE TABLE t (a int);\nCOPY t FROM STDIN;\n1\nx\n\\.\n";
    let failure = bed.fail(&[file("a/1.sql", copy)]).await;
    assert_eq!((failure.line, failure.context.is_some()), (Some(4), true), "{failure:#?}");
    assert_eq!((failure.column, failure.source.as_deref(), failure.statement), (None, Some("x"), Some(2)));
    let steps = format!("-- no-transaction\n{copy}");
    assert_eq!(bed.fail(&[file("a/2.sql", &steps)]).await.line, Some(5));
    bed.client().await.batch("clear up", "DROP TABLE t").await.expect("dropped");
    let deferred = "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE c (a int REFERENCES p DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO c VALUES (1);";
    let failure = bed.fail(&[file("a/1.sql", deferred)]).await;
    assert_eq!((failure.sqlstate.as_deref(), failure.line), (Some("23503"), None), "{failure:#?}");
    assert!(failure.detail.is_some());
    assert_eq!(bed.ask("SELECT count(*)::text FROM pg_class WHERE relname IN ('p', 'c', 't')").await, "0");

    // A value that is new in this transaction.
    let value = "CREATE TYPE e AS ENUM ('a');";
    bed.run(&[file("a/0.sql", value)]).await;
    let failure =
        bed.fail(&[file("a/0.sql", value), file("a/1.sql", "ALTER TYPE e ADD VALUE 'b'; SELECT 'b'::e;")]).await;
    assert!(failure.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{failure:#?}");
}

async fn what_cannot_be_one_transaction_is_told_before_it_runs(bed: &Bed) {
    for (text, line, says) in [
        ("CREATE TABLE t ();\n\\i more.sql\n", 2, "'\\i' is a command of psql"),
        ("CREATE TABLE t ();\n\\restrict abc\n", 2, "command of psql"),
        ("CREATE TABLE t ();\nCOMMIT;\nSELECT 1;", 2, "one transaction"),
        ("BEGIN; CREATE TABLE t (); COMMIT;\nBEGIN; COMMIT;", 1, "one transaction"),
        ("CREATE TABLE t ();\n\nPREPARE TRANSACTION 'x';", 3, "one transaction"),
        ("CREATE TABLE t ();\nROLLBACK", 2, "one transaction"),
        ("CREATE TABLE t (a int);\nCOPY t FROM STDIN;\n1\n", 2, "has no end"),
        ("CREATE TABLE t (a int);\nCOPY t TO STDOUT;", 2, "nobody to write to"),
    ] {
        let failure = bed.fail(&[file("a/1.sql", text)]).await;
        assert_eq!(failure.line, Some(line), "{failure}");
        assert!(failure.message.contains(says) && failure.sqlstate.is_none(), "{failure}");
        assert_eq!(bed.ask("SELECT coalesce(to_regclass('t')::text, 'none')").await, "none", "{text}");
    }
    let failure = bed.fail(&[file("a/1.sql", "CREATE TABLE t (a int);\nCREATE INDEX CONCURRENTLY i ON t (a);")]).await;
    assert_eq!(failure.sqlstate.as_deref(), Some("25001"));
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("-- pgdb: no-transaction")), "{failure}");
    // What a body does is PostgreSQL's to refuse.
    let failure = bed.fail(&[file("a/1.sql", "CREATE TABLE t (); DO $$ BEGIN COMMIT; END $$;")]).await;
    assert_eq!(failure.sqlstate.as_deref(), Some("2D000"));
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('t')::text, 'none')").await, "none");
}

async fn a_failure_is_kept_in_the_ledger_and_counted(bed: &Bed) {
    let bad = [file("a/1.sql", "SELECT 1/0;")];
    for _ in 0..3 {
        bed.fail(&bad).await;
    }
    let rows = "SELECT string_agg(outcome || ' ' || attempts || ' ' || coalesce(error, ''), '|' ORDER BY id) FROM pgdb.migrations";
    assert_eq!(bed.ask(rows).await, "failed 3 line 1: division by zero (SQLSTATE 22012)");
    bed.run(&[file("a/1.sql", "SELECT 1;")]).await;
    assert!(bed.ask(rows).await.ends_with("|applied 1 "));
    // A file that takes the ledger away takes nothing with it.
    let failure = bed.fail(&[file("a/1.sql", "SELECT 1;"), file("a/2.sql", "DROP SCHEMA pgdb CASCADE;")]).await;
    assert_eq!(failure.sqlstate.as_deref(), Some("42P01"), "{failure}");
    assert!(bed.ask(rows).await.contains("|applied 1 |failed 1 "));
}

async fn without_stopping_the_others_run(bed: &Bed) {
    let latin1 = File::new(Key::parse("a/2.sql").expect("a key"), b"SELECT '\xe4';".to_vec());
    let files = [file("a/1.sql", "SELECT 1/0"), latin1, file("a/3.sql", "CREATE TABLE three ()"), file("a/4.sql", "x")];
    let refused = bed.try_run(&files, &options()).await.expect_err("a file is no text");
    assert!(matches!(refused, MigrateError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("'a/2.sql' line 1, byte 9 of it: this is not UTF-8"), "{refused}");
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('pgdb.migrations')::text, 'none')").await, "none");

    let report = bed.try_run(&files, &Options { keep_going: true, ..options() }).await.expect("a run");
    assert_eq!((report.applied, report.failed, report.refused.len()), (1, 2, 1), "{report:#?}");
    assert_eq!(bed.ask("SELECT to_regclass('three')::text").await, "three");
    assert!(!report.is_complete());
}
