//! Two sessions, killed where it hurts: what is true is found out.

use super::apart::{APP, OPERATOR, apart, heard, roles, try_run};
use super::{Bed, file, on_both, options};
use crate::server::one;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::Outcome;
use pgdb_pg::Client;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::report::RunReport;
use pgdb_pg::migrate::run::{Options, run};
use std::time::Duration;

on_both!(killed_after_the_commit_it_was_run);
on_both!(killed_at_the_commit_it_was_not_run);
on_both!(a_commit_that_outlives_its_run_is_waited_for);
on_both!(what_the_server_cannot_tell_is_asked_of_a_person);

/// A table whose rows wait at their commit for the gate, and rows for it: in one transaction, or one by one.
fn files(by_steps: bool) -> [File; 2] {
    let head = if by_steps { "-- no-transaction\n" } else { "" };
    [
        file(
            "a/1.sql",
            "CREATE TABLE t (a int);
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION wait();",
        ),
        file("a/2.sql", &format!("{head}INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);")),
    ]
}

const ROWS: &str = "SELECT coalesce(string_agg(a::text, ' ' ORDER BY a), '') FROM t";
const LEDGER: &str = "SELECT string_agg(outcome || coalesce(statements_done::text, ''), ' ' ORDER BY id) \
     FROM pgdb.migrations WHERE key = 'a/2.sql'";

/// Starts a run that comes as far as its first commit, and does something there. Gives what the run says.
async fn at_the_commit(bed: &Bed, gate: &Client, files: &[File], then: impl AsyncFnOnce()) -> RunReport {
    gate.batch("close the gate", "SELECT pg_advisory_lock(4711)").await.expect("closed");
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let mut session = apart(bed).await;
    let tell = &mut |_: pgdb_pg::migrate::report::Event<'_>| {};
    let running = run(&mut session, files, &patient, tell);
    let killing = async {
        until(gate, "SELECT (count(*) > 0)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await;
        then().await;
    };
    let (report, ()) = tokio::join!(running, killing);
    report.expect("told")
}

/// Asks until the answer is yes.
async fn until(client: &Client, question: &str) {
    while one(client, question).await != "true" {
        tokio::task::yield_now().await;
    }
}

/// Ends sessions as a crash does: what they have not committed is gone.
async fn kill(gate: &Client, roles: &[&str]) {
    for role in roles {
        let others = format!("FROM pg_stat_activity WHERE usename = '{role}'");
        gate.batch("kill", &format!("SELECT pg_terminate_backend(pid) {others}")).await.expect("killed");
        until(gate, &format!("SELECT (count(*) = 0)::text {others}")).await;
    }
}

async fn open(gate: &Client) {
    gate.batch("open the gate", "SELECT pg_advisory_unlock(4711)").await.expect("opened");
}

async fn killed_after_the_commit_it_was_run(bed: &Bed) {
    let gate = roles(bed).await;
    for by_steps in [false, true] {
        let files = files(by_steps);
        let beside = bed.client().await;
        let report = at_the_commit(bed, &gate, &files, async || {
            // The transaction's number is in the ledger; nothing more can be written there.
            beside.batch("hold", "BEGIN; LOCK TABLE pgdb.migrations IN SHARE ROW EXCLUSIVE MODE").await.expect("held");
            open(&gate).await;
            until(
                &gate,
                "SELECT (count(*) > 0)::text FROM pg_locks WHERE relation = 'pgdb.migrations'::regclass AND NOT granted",
            )
            .await;
            kill(&gate, &[OPERATOR, APP]).await;
            beside.batch("let go", "COMMIT").await.expect("let go");
        })
        .await;
        let failure = report.files.last().and_then(|file| file.failure.as_ref()).expect("a failure");
        assert!(failure.aftermath.contains("connection was lost"), "{failure}");
        let (rows, left) = if by_steps { ("1", "unfinished0") } else { ("1 2", "unfinished") };
        assert_eq!((one(&gate, ROWS).await, one(&gate, LEDGER).await), (rows.to_owned(), left.to_owned()));
        let (report, words) = heard(bed, &files).await;
        assert!(report.is_complete() && report.applied == usize::from(by_steps), "{report:#?}");
        assert!(words.iter().any(|word| word.contains("ended after its commit")), "{words:?}");
        let applied = if by_steps { "applied2" } else { "applied" };
        assert_eq!((one(&gate, ROWS).await, one(&gate, LEDGER).await), ("1 2".to_owned(), applied.to_owned()));
        begin_anew(&gate).await;
        beside.close().await;
    }
}

async fn killed_at_the_commit_it_was_not_run(bed: &Bed) {
    let gate = roles(bed).await;
    for by_steps in [false, true] {
        let files = files(by_steps);
        at_the_commit(bed, &gate, &files, async || kill(&gate, &[OPERATOR, APP]).await).await;
        let left = if by_steps { "unfinished0" } else { "unfinished" };
        assert_eq!((one(&gate, ROWS).await, one(&gate, LEDGER).await), (String::new(), left.to_owned()));
        open(&gate).await;
        let (report, words) = heard(bed, &files).await;
        assert!(report.is_complete() && report.applied == 1, "{report:#?}");
        assert!(words.iter().any(|word| word.contains("ended before its commit")), "{words:?}");
        let applied = if by_steps { "applied2" } else { "failed applied" };
        assert_eq!((one(&gate, ROWS).await, one(&gate, LEDGER).await), ("1 2".to_owned(), applied.to_owned()));
        begin_anew(&gate).await;
    }
}

async fn a_commit_that_outlives_its_run_is_waited_for(bed: &Bed) {
    let gate = roles(bed).await;
    let files = files(false);
    let report = at_the_commit(bed, &gate, &files, async || {
        kill(&gate, &[OPERATOR]).await;
        let none = Options { wait: Duration::ZERO, ..options() };
        let error = try_run(bed, &files, &none).await.expect_err("the commit goes on");
        assert!(matches!(&error, MigrateError::StillOpen { key, .. } if key == "a/2.sql"), "{error}");
        let second = heard(bed, &files);
        let opening = async {
            // The gate, the commit that waits for it, and the second run.
            until(&gate, "SELECT (count(*) = 3)::text FROM pg_locks WHERE locktype = 'advisory'").await;
            open(&gate).await;
        };
        let ((report, words), ()) = tokio::join!(second, opening);
        assert!(report.is_complete() && report.applied == 0, "{report:#?}");
        assert!(words.iter().any(|word| word.contains("ended after its commit")), "{words:?}");
    })
    .await;
    assert_eq!(report.failed, 1, "{report:#?}");
    assert_eq!((one(&gate, ROWS).await, one(&gate, LEDGER).await), ("1 2".to_owned(), "applied".to_owned()));
}

async fn what_the_server_cannot_tell_is_asked_of_a_person(bed: &Bed) {
    let gate = roles(bed).await;
    let files = files(false);
    at_the_commit(bed, &gate, &files, async || kill(&gate, &[OPERATOR, APP]).await).await;
    open(&gate).await;
    // As a dump that was read back on another server would have it.
    let elsewhere = "UPDATE pgdb.migrations SET doing = doing || '{\"system\": \"1\"}' WHERE outcome = 'unfinished'";
    gate.batch("be elsewhere", elsewhere).await.expect("there");
    let error = try_run(bed, &files, &options()).await.expect_err("in doubt");
    assert!(matches!(&error, MigrateError::InDoubt { key, .. } if key == "a/2.sql"), "{error}");
    let checksum: Option<Checksum> = Some(files[1].checksum);
    ledger::note(&gate, "a/2.sql", checksum, Outcome::Repaired, "test").await.expect("repaired");
    let report = try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete() && report.applied == 0, "{report:#?}");
}

async fn begin_anew(gate: &Client) {
    let sql = format!("DROP SCHEMA pgdb, public CASCADE; CREATE SCHEMA public AUTHORIZATION {APP}");
    gate.batch("begin anew", &sql).await.expect("begun anew");
}
