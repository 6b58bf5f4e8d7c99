//! PostgreSQL that is not there yet, goes away, or loses what was in it.

use super::bed::Bed;
use super::other::Other;
use pgdb_testkit::sql;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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

/// What lies between a watcher and its server.
struct Network {
    server: u16,
    port: u16,
    /// Everything on the way ends with this.
    carries: Option<tokio::task::JoinHandle<()>>,
}

impl Network {
    /// A way to the server of a URL, and the URL that takes it.
    async fn to(url: &str, port: u16) -> (Self, String) {
        let (host, rest) = url.rsplit_once(':').expect("a port");
        let (server, database) = rest.split_once('/').expect("a database");
        let mut network = Self { server: server.parse().expect("a number"), port, carries: None };
        network.mend().await;
        (network, format!("{host}:{port}/{database}"))
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port");
        let server = self.server;
        self.carries = Some(tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                ways.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", server)).await {
                        // However it ends, it has ended.
                        let _ = io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        }));
    }

    async fn cut(&mut self) {
        if let Some(carries) = self.carries.take() {
            carries.abort();
            assert!(carries.await.is_err_and(|ended| ended.is_cancelled()));
        }
    }
}

#[tokio::test]
async fn a_network_that_is_cut_is_told_and_what_was_at_work_is_done_again() {
    let mut bed = Bed::start().await;
    let (mut network, url) = Network::to(&bed.url(), bed.daemon.first_port() + 11).await;
    bed.set("DATABASE_URL", &url);
    bed.admin("CREATE DATABASE pact_mock_servers").await;
    let held = sql::login(&bed.url()).await.expect("in");
    held.run("SELECT pg_advisory_lock(4242)").await.expect("locked");
    let waits = "DO $$ BEGIN WHILE NOT pg_try_advisory_xact_lock(4242) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;";
    bed.write_tree(FILE, &format!("{}\n{waits}", creates("a")));
    bed.watch();
    let at_work = async || {
        let (status, body) = bed.probe("/readiness").await?;
        (status == 503 && body["running"] == FILE).then_some(())
    };
    pgdb_testkit::wait::until(super::bed::LIMIT, "the file to be at work", at_work).await;
    network.cut().await;
    bed.not_ready("PostgreSQL does not answer").await;
    assert_eq!(bed.probe("/liveness").await.map(|(status, _)| status), Some(200));
    // The server ends what nobody waits for any more, and lets the lock go.
    let migrators = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid <> 4242 AND database = \
         (SELECT oid FROM pg_database WHERE datname = current_database())";
    bed.until_sql(migrators, "0").await;
    assert_eq!(bed.sql("SELECT coalesce(to_regclass('a')::text, 'none')").await, "none");
    held.run("SELECT pg_advisory_unlock(4242)").await.expect("unlocked");
    network.mend().await;
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM a").await, "0");
    assert_eq!(bed.sql("SELECT count(*)::text FROM pgdb.migrations WHERE outcome = 'applied'").await, "1");
    // Cut at rest, it is told as soon as somebody asks.
    network.cut().await;
    bed.not_ready("PostgreSQL does not answer").await;
    network.mend().await;
    bed.ready().await;
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
    bed.admin("CREATE DATABASE pact_mock_servers").await;
    // The first file goes on when we let it: until then one of the two is in it, and the other waits.
    let held = sql::login(&bed.url()).await.expect("in");
    held.run("SELECT pg_advisory_lock(4242)").await.expect("locked");
    let waits = "DO $$ BEGIN WHILE NOT pg_try_advisory_xact_lock(4242) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;";
    bed.write_tree("public/000_wait.sql", waits);
    for number in 1..=20 {
        bed.write_tree(&format!("public/{number:03}_t.sql"), &creates(&format!("t{number}")));
    }
    let mut other = Other::watch(&bed, &[]);
    let runs = |_: u16, body: &serde_json::Value| body["running"] == "public/000_wait.sql";
    other.until("the other to run the first file", runs).await;
    bed.watch();
    bed.not_ready("another migrator is at work on this database").await;
    held.run("SELECT pg_advisory_unlock(4242)").await.expect("unlocked");
    bed.ready().await;
    other.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text || count(DISTINCT key) FROM pgdb.migrations").await, "2121");
    // What comes now both see, and one of them runs it.
    for number in 21..=40 {
        bed.write_tree(&format!("public/{number:03}_t.sql"), &creates(&format!("t{number}")));
    }
    bed.until_sql("SELECT count(*)::text FROM pgdb.migrations WHERE outcome = 'applied'", "41").await;
    let all = |status, body: &serde_json::Value| status == 200 && body["applied"] == 41;
    other.until("the other to know of all", all).await;
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM pgdb.migrations").await, "41");
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
