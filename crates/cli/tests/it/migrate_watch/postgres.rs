//! PostgreSQL that is not there yet, goes away, or loses what was in it.

use super::bed::Bed;
use pgdb_testkit::sql;

const FILE: &str = "public/001_a.sql";

fn creates(table: &str) -> String {
    format!("CREATE TABLE {table} (a int);")
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut bed = Bed::start().await;
    bed.power("stop").await;
    bed.write_tree(FILE, &creates("a"));
    bed.watch();
    let body = bed.not_ready("PostgreSQL does not answer").await;
    assert!(body["reason"].as_str().is_some_and(|reason| reason.contains("127.0.0.1")), "{body}");
    assert_eq!(bed.probe("/liveness").await.map(|(status, _)| status), Some(200));
    bed.power("start").await;
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM a").await, "0");
}

#[tokio::test]
async fn a_restart_is_seen_and_nothing_runs_twice() {
    let mut bed = Bed::start().await;
    bed.write_tree(FILE, &creates("a"));
    bed.watch();
    bed.ready().await;
    bed.power("stop").await;
    // Asked now, it says so now, whatever was found last.
    bed.not_ready("PostgreSQL does not answer").await;
    // What changes meanwhile is not forgotten.
    bed.write_tree("public/002_b.sql", &creates("b"));
    bed.power("start").await;
    bed.until_sql("SELECT count(*)::text FROM b", "0").await;
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM pgdb.migrations").await, "2");
}

#[tokio::test]
async fn a_database_that_was_dropped_is_made_and_filled_again() {
    let mut bed = Bed::start().await;
    bed.write_tree(FILE, &creates("a"));
    bed.watch();
    bed.ready().await;
    // No session of ours is in the way while nothing is to be done.
    let drop = async || {
        let session = sql::login(&bed.url().replace("pact_mock_servers", "postgres")).await.ok()?;
        session.run("DROP DATABASE pact_mock_servers").await.ok()
    };
    pgdb_testkit::wait::until(super::bed::LIMIT, "the database to be dropped", drop).await;
    let made = async || {
        // The probe notices.
        bed.probe("/readiness").await?;
        sql::login(&bed.url()).await.ok()?.run("SELECT count(*)::text FROM a").await.ok()?
    };
    pgdb_testkit::wait::until(super::bed::LIMIT, "the table to be there again", made).await;
    bed.ready().await;
}

#[tokio::test]
async fn two_watchers_of_one_database_take_turns() {
    let mut bed = Bed::start().await;
    for number in 1..=20 {
        bed.write_tree(&format!("public/{number:03}_t.sql"), &creates(&format!("t{number}")));
    }
    let other_port = (bed.daemon.first_port() + 11).to_string();
    let mut command = bed.command();
    let mut other = command.env("HEALTH_PORT", &other_port).spawn().expect("pgdb runs");
    bed.watch();
    bed.ready().await;
    let twice = "SELECT count(*)::text FROM pgdb.migrations";
    let rows = bed.sql(twice).await;
    let _ = other.kill();
    let _ = other.wait();
    assert_eq!(rows, "20");
}

#[tokio::test]
async fn it_ends_when_told_and_leaves_no_secret_behind() {
    let mut bed = Bed::start().await;
    bed.write_tree(FILE, &creates("a"));
    bed.watch();
    bed.ready().await;
    let metrics = bed.text("/metrics").await;
    for line in ["pgdb_migrate_ready 1", "pgdb_migrate_files 1", "pgdb_migrate_applied 1", "pgdb_migrate_problems 0"] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in {metrics}");
    }
    let status = bed.stop_watching().await;
    assert_eq!(status.code(), Some(0));
    let log = bed.log();
    assert!(log.contains("the watcher has ended"));
    for secret in bed.daemon.secrets() {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
    assert_eq!(bed.admin("SELECT count(*)::text FROM pg_stat_activity WHERE datname = 'pact_mock_servers'").await, "0");
}
