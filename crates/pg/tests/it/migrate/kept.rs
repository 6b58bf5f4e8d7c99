//! What a file does to the session that runs it, and what of a file may be told.

use super::{Bed, file, on_both, options};
use pgdb_pg::migrate::run::Options;

on_both!(a_file_that_throws_away_what_was_prepared_harms_no_other);
on_both!(a_file_that_is_not_noted_is_not_applied);
on_both!(a_file_that_gives_up_the_lock_fails);
on_both!(a_failure_in_the_ledger_quotes_nothing);
on_both!(a_mistake_in_a_text_that_a_file_runs_does_not_run_it_twice);
on_both!(what_is_temporary_ends_with_its_file);

const NOTED: &str = "SELECT string_agg(key || ' ' || outcome, ', ' ORDER BY id) FROM pgdb.migrations";

fn going_on() -> Options {
    Options { keep_going: true, ..options() }
}

async fn a_file_that_throws_away_what_was_prepared_harms_no_other(bed: &Bed) {
    let files = [
        file("a/1.sql", "CREATE TABLE t (a int)"),
        file("a/2.sql", "DEALLOCATE ALL; SELECT 1/0;"),
        file("a/3.sql", "INSERT INTO t VALUES (1)"),
        file("a/4.sql", "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$; INSERT INTO t VALUES (2)"),
        file("a/5.sql", "INSERT INTO t VALUES (3)"),
        file("a/6.sql", "-- no-transaction\nDEALLOCATE ALL"),
        file("a/7.sql", "INSERT INTO t VALUES (4)"),
    ];
    let report = bed.try_run(&files, &going_on()).await.expect("a run");
    assert_eq!((report.applied, report.failed), (6, 1), "{report:#?}");
    assert_eq!(
        bed.ask(NOTED).await,
        "a/1.sql applied, a/2.sql failed, a/3.sql applied, a/4.sql applied, a/5.sql applied, a/6.sql applied, a/7.sql applied"
    );
    assert_eq!(bed.ask("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").await, "1 2 3 4");
}

async fn a_file_that_is_not_noted_is_not_applied(bed: &Bed) {
    let files = [
        file(
            "a/1.sql",
            "CREATE TABLE t (); CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER nothing BEFORE INSERT ON pgdb.migrations FOR EACH ROW WHEN (NEW.outcome = 'applied') \
             EXECUTE FUNCTION nothing();",
        ),
        file("a/2.sql", "CREATE TABLE u ()"),
    ];
    let report = bed.try_run(&files, &going_on()).await.expect("a run");
    let failure = report.files[0].failure.as_ref().expect("a failure");
    assert!(failure.message.contains("could not be noted in the ledger"), "{failure}");
    assert_eq!(bed.ask(NOTED).await, "a/1.sql failed, a/2.sql applied");
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('t')::text, 'none')").await, "none");
}

async fn a_file_that_gives_up_the_lock_fails(bed: &Bed) {
    let rest = file("a/9.sql", "CREATE TABLE u ()");
    for (key, text, kept) in [
        ("a/1.sql", "CREATE TABLE t (); SELECT pg_advisory_unlock_all()", "none"),
        ("a/2.sql", "CREATE TABLE t (a int); COPY t FROM STDIN;\n1\n\\.\nSELECT pg_advisory_unlock_all()", "none"),
        ("a/3.sql", "-- no-transaction\nSELECT pg_advisory_unlock_all();\nCREATE TABLE t ();", "none"),
        ("a/4.sql", "-- no-transaction\nBEGIN; CREATE TABLE t (); SELECT pg_advisory_unlock_all(); COMMIT;", "none"),
    ] {
        let report = bed.try_run(&[file(key, text), rest.clone()], &going_on()).await.expect("a run");
        let failure = report.files[0].failure.as_ref().expect(key);
        assert!(failure.message.contains("gave up the lock"), "{key}: {failure}");
        // Somebody else may be at work by now.
        assert_eq!(report.not_reached, ["a/9.sql"], "{key}");
        assert_eq!(bed.ask("SELECT coalesce(to_regclass('t')::text, 'none')").await, kept, "{key}");
    }
    assert_eq!(bed.ask("SELECT count(*)::text FROM pgdb.migrations WHERE outcome = 'applied'").await, "0");
}

async fn a_failure_in_the_ledger_quotes_nothing(bed: &Bed) {
    let long = "x".repeat(1000);
    let files = [
        file("a/1.sql", "ALTER ROLE x PASSWORD secret1"),
        file("a/2.sql", "CREATE TABLE t (a int);\nINSERT INTO t SELECT 'secret2'::text::int;"),
        file("a/3.sql", "-- no-transaction\nSELECT 'secret3'::text::date;"),
        file("a/4.sql", &format!("DO $$ BEGIN RAISE '{long}'; END $$")),
    ];
    let report = bed.try_run(&files, &going_on()).await.expect("a run");
    assert_eq!(report.failed, 4, "{report:#?}");
    assert!(report.files[1].failure.as_ref().is_some_and(|failure| failure.to_string().contains("secret2")));
    assert_eq!(
        bed.ask("SELECT string_agg(error, E'\\n' ORDER BY id) FROM pgdb.migrations WHERE key < 'a/4'").await,
        "line 1, column 23: syntax error (SQLSTATE 42601)\n\
         line 2: invalid input syntax for type integer (SQLSTATE 22P02)\n\
         line 2: invalid input syntax for type date (SQLSTATE 22007)"
    );
    assert_eq!(bed.ask("SELECT length(error)::text FROM pgdb.migrations WHERE key > 'a/4'").await, "300");
}

async fn a_mistake_in_a_text_that_a_file_runs_does_not_run_it_twice(bed: &Bed) {
    let files = [
        file("a/1.sql", "CREATE SEQUENCE s"),
        file("a/2.sql", "SELECT nextval('s'); DO $$ BEGIN EXECUTE 'selec 1'; END $$"),
    ];
    let failure = bed.fail(&files).await;
    assert_eq!((failure.sqlstate.as_deref(), failure.statement), (Some("42601"), Some(2)), "{failure}");
    assert_eq!(bed.ask("SELECT last_value::text FROM s").await, "1");
}

async fn what_is_temporary_ends_with_its_file(bed: &Bed) {
    let gone = "DO $$ BEGIN IF to_regclass('pg_temp.left_over') IS NOT NULL THEN RAISE 'still there'; END IF; END $$;";
    let left = "CREATE TEMP TABLE left_over (); CREATE TEMP TABLE pg_locks (pid int);";
    bed.run(&[
        file("a/1.sql", left),
        file("a/2.sql", &format!("{gone} {left}")),
        file("a/3.sql", &format!("-- no-transaction\n{gone}\n{left}")),
        file("a/4.sql", &format!("BEGIN READ WRITE; {gone} COMMIT;")),
    ])
    .await;
}
