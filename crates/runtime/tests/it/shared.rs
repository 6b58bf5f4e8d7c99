//! What holds of every runtime: one suite, run on each.

use crate::lab::Lab;
use pgdb_runtime::RuntimeError;
use pgdb_runtime::spec::{LogOptions, Observed, PREPARED_DB, PREPARED_ROLE, Tool};
use pgdb_testkit::on::On;
use pgdb_testkit::on_runtimes;
use std::collections::BTreeSet;
use tokio::io::AsyncReadExt;

on_runtimes!(
    process, docker, podman;
    a_server_is_made_run_stopped_and_removed,
    every_call_can_be_repeated,
    a_newer_daemon_finds_what_an_older_one_started,
    data_is_kept_and_taken_into_use_again,
    many_servers_are_seen_at_once,
    a_dump_goes_out_and_back_in,
    a_program_ends_when_nobody_wants_it_any_more,
    the_log_is_there_in_part_and_as_it_grows,
    settings_change_with_a_new_start,
);

fn running(observed: &Observed) -> bool {
    matches!(observed, Observed::Running { .. })
}

async fn a_server_is_made_run_stopped_and_removed(on: &On) {
    let lab = Lab::new(on).await;
    let mut majors: Vec<u16> =
        lab.runtime.engines().await.expect("engines").iter().map(|engine| engine.major).collect();
    assert!(!majors.is_empty() && majors.is_sorted_by(|a, b| a > b), "{majors:?}");
    // The newest and the oldest; on processes all are run elsewhere.
    majors = vec![majors[0], majors[majors.len() - 1]];
    for major in majors {
        let mut spec = lab.spec(&format!("v{major}")).await;
        spec.major = major;
        assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Missing);
        lab.runtime.prepare(major).await.expect("prepared");
        lab.runtime.create(&spec).await.expect("created");
        assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
        lab.up(&spec).await;
        assert!(running(&lab.runtime.observe(&spec).await.expect("observed")));
        for (setting, value) in [
            ("data_checksums", "on"),
            ("password_encryption", "scram-sha-256"),
            ("server_encoding", "UTF8"),
            ("cluster_name", spec.name.as_str()),
            ("max_connections", "20"),
        ] {
            assert_eq!(lab.sql(&spec, "postgres", &format!("SHOW {setting}")).await, value, "{setting}");
        }
        let ready = "SELECT concat_ws('|', r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, \
                     has_database_privilege('pg_monitor', d.oid, 'CONNECT')) \
                     FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = ";
        let createrole = if major >= 16 { "t" } else { "f" };
        let found = lab.sql(&spec, "postgres", &format!("{ready}'{PREPARED_DB}'")).await;
        assert_eq!(found, format!("{PREPARED_ROLE}|f|f|t|{createrole}|f"));
        let others = "SELECT count(*) FROM pg_database WHERE NOT datistemplate";
        assert_eq!(lab.sql(&spec, "postgres", others).await, "2", "no database but these");
        lab.sql(&spec, PREPARED_DB, "CREATE TABLE t AS SELECT i FROM generate_series(1, 20000) i; CHECKPOINT").await;
        lab.runtime.stop(&spec).await.expect("stopped");
        assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
        lab.runtime.start(&spec).await.expect("started again");
        assert_eq!(lab.sql(&spec, PREPARED_DB, "SELECT count(*) FROM t").await, "20000");
        lab.runtime.stop(&spec).await.expect("stopped");
        lab.runtime.remove(&spec).await.expect("removed");
        assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Missing);
    }
    assert!(lab.runtime.inventory().await.expect("listed").is_empty());
}

async fn every_call_can_be_repeated(on: &On) {
    let lab = Lab::new(on).await;
    let spec = lab.spec("again").await;
    for _ in 0..2 {
        lab.runtime.prepare(spec.major).await.expect("prepared");
        lab.runtime.create(&spec).await.expect("created");
        lab.runtime.configure(&spec).await.expect("configured");
        lab.runtime.start(&spec).await.expect("started");
        lab.runtime.sync(&spec).await.expect("synced");
    }
    let started = "SELECT pg_postmaster_start_time()";
    let before = lab.sql(&spec, "postgres", started).await;
    lab.runtime.start(&spec).await.expect("runs");
    assert_eq!(lab.sql(&spec, "postgres", started).await, before, "a second start changes nothing");
    // What was written meanwhile can be read by the server.
    assert_eq!(lab.sql(&spec, "postgres", "SELECT pg_reload_conf()").await, "t");
    assert_eq!(lab.sql(&spec, "postgres", "SELECT count(*) FROM pg_file_settings WHERE error <> ''").await, "0");
    assert!(lab.runtime.disk_usage(&spec).await.expect("measured") > 20 << 20);
    assert!(lab.runtime.remove(&spec).await.is_err(), "a running server is not removed");
    for _ in 0..2 {
        lab.runtime.stop(&spec).await.expect("stopped");
    }
    for _ in 0..2 {
        lab.runtime.remove(&spec).await.expect("removed");
    }
    lab.runtime.stop(&spec).await.expect("nothing to stop");
    lab.runtime.exited(&spec).await.expect("nothing to wait for");
}

async fn a_newer_daemon_finds_what_an_older_one_started(on: &On) {
    let lab = Lab::new(on).await;
    let spec = lab.spec("adopted").await;
    lab.up(&spec).await;
    let newer = lab.again().await;
    let seen = newer.observe(&spec).await.expect("observed");
    assert!(running(&seen));
    newer.start(&spec).await.expect("nothing to do");
    assert_eq!(newer.observe(&spec).await.expect("observed"), seen, "it is the same one");
    let waiting = tokio::spawn({
        let (runtime, spec) = (lab.again().await, spec.clone());
        async move { runtime.exited(&spec).await }
    });
    newer.stop(&spec).await.expect("stopped");
    waiting.await.expect("joined").expect("saw its end");
    assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
    assert_eq!(lab.runtime.inventory().await.expect("listed"), ["adopted"]);
    lab.runtime.discard("adopted").await.expect("discarded");
    assert!(lab.runtime.inventory().await.expect("listed").is_empty());
    assert_eq!(lab.runtime.observe(&spec).await.expect("observed"), Observed::Missing);
}

async fn data_is_kept_and_taken_into_use_again(on: &On) {
    let lab = Lab::new(on).await;
    let first = lab.spec("k1").await;
    lab.up(&first).await;
    lab.sql(&first, PREPARED_DB, "CREATE TABLE t AS SELECT 41 + 1 AS answer").await;
    lab.runtime.stop(&first).await.expect("stopped");
    for _ in 0..2 {
        assert_eq!(lab.runtime.keep(&first, &BTreeSet::new()).await.expect("kept"), first.volume);
    }
    assert_eq!(lab.runtime.kept(&first.volume).await.expect("looked"), Some(first.major));
    let mut second = lab.spec("k2").await;
    second.system_identifier = first.system_identifier;
    if lab.runtime.volumes_keep_their_name() {
        second.volume.clone_from(&first.volume);
    }
    let mut other = second.clone();
    other.major = if second.major == 18 { 16 } else { 18 };
    assert!(lab.runtime.restore_kept(&first.volume, &other).await.is_err(), "of another major");
    assert!(lab.runtime.restore_kept("pgdb-nowhere", &second).await.is_err());
    for _ in 0..2 {
        lab.runtime.restore_kept(&first.volume, &second).await.expect("restored");
    }
    lab.runtime.configure(&second).await.expect("configured");
    lab.runtime.start(&second).await.expect("started");
    for _ in 0..2 {
        lab.runtime.admit_admin(&second).await.expect("admitted");
    }
    assert_eq!(lab.sql(&second, PREPARED_DB, "SELECT answer FROM t").await, "42");
    lab.runtime.stop(&second).await.expect("stopped");
    lab.runtime.remove(&second).await.expect("removed");
    assert_eq!(lab.runtime.kept(&first.volume).await.expect("looked"), None);
    assert!(lab.runtime.keep(&second, &BTreeSet::new()).await.is_err(), "there is nothing to keep");
}

async fn many_servers_are_seen_at_once(on: &On) {
    let lab = Lab::new(on).await;
    let (one, two, three) = (lab.spec("s1").await, lab.spec("s2").await, lab.spec("s3").await);
    tokio::join!(lab.up(&one), lab.up(&two));
    lab.runtime.stop(&two).await.expect("stopped");
    let seen = lab.runtime.observe_all(&[two.clone(), one.clone(), three]).await.expect("observed");
    assert_eq!((&seen[0], running(&seen[1]), &seen[2]), (&Observed::Stopped, true, &Observed::Missing));
    assert_eq!(lab.runtime.observe(&one).await.expect("observed"), seen[1], "as one by one");
    assert_eq!(lab.runtime.inventory().await.expect("listed"), ["s1", "s2"]);
}

async fn a_dump_goes_out_and_back_in(on: &On) {
    let lab = Lab::new(on).await;
    let spec = lab.spec("dump").await;
    lab.up(&spec).await;
    lab.sql(&spec, "postgres", "CREATE ROLE u LOGIN PASSWORD 'a secret'").await;
    lab.sql(&spec, "postgres", "CREATE DATABASE d OWNER u").await;
    // More than what waits between the program and its reader.
    let rows = "CREATE TABLE t AS SELECT i, md5(i::text) AS text FROM generate_series(1, 100000) i";
    lab.sql(&spec, "d", &format!("{rows}; ALTER TABLE t OWNER TO u")).await;
    let password = "a secret".into();
    let tool = |program: &'static str, args: &'static [String], stdin| Tool {
        program,
        args,
        user: "u",
        password: Some(&password),
        db: "d",
        stdin,
    };
    let words = |words: &[&str]| -> &'static [String] {
        words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().leak()
    };
    let mut dumping = lab.runtime.tool(&spec, tool("pg_dump", words(&["-Fc"]), None)).await.expect("runs");
    let mut dump = Vec::new();
    dumping.stdout.read_to_end(&mut dump).await.expect("read");
    dumping.finished.await.expect("succeeded");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("dump");
    std::fs::write(&file, &dump).expect("written");
    lab.sql(&spec, "d", "DROP TABLE t").await;
    let into = tool("pg_restore", words(&["-d", "d"]), Some(file));
    lab.runtime.tool(&spec, into).await.expect("runs").finished.await.expect("succeeded");
    assert_eq!(lab.sql(&spec, "d", "SELECT count(*) FROM t").await, "100000");

    let missing = lab.runtime.tool(&spec, tool("pg_dump", words(&["-t", "nope"]), None)).await.expect("runs");
    match missing.finished.await {
        Err(RuntimeError::ToolFailed { program, stderr }) => {
            assert!(program == "pg_dump" && stderr.contains("no matching tables"), "{stderr}");
        }
        other => panic!("{other:?}"),
    }
    assert!(lab.runtime.tool(&spec, tool("sh", words(&[]), None)).await.is_err(), "not every program is run");
    let wrong = "wrong".into();
    let refused = Tool { password: Some(&wrong), ..tool("psql", words(&[]), None) };
    assert!(lab.runtime.tool(&spec, refused).await.expect("runs").finished.await.is_err());
}

async fn a_program_ends_when_nobody_wants_it_any_more(on: &On) {
    let lab = Lab::new(on).await;
    let spec = lab.spec("left").await;
    lab.up(&spec).await;
    // It would go on with the second if it were still there when the first is cancelled.
    let args = ["-c", "SELECT pg_sleep(100)", "-c", "SELECT pg_sleep(100)"].map(str::to_owned);
    let tool = Tool { program: "psql", args: &args, user: "pgdb_admin", password: None, db: "postgres", stdin: None };
    let sleeping = lab.runtime.tool(&spec, tool).await.expect("runs");
    let clients = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)'";
    wait_for(&lab, &spec, clients, "1").await;
    drop(sleeping);
    let end = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)'";
    lab.sql(&spec, "postgres", end).await;
    wait_for(&lab, &spec, clients, "0").await;
}

async fn wait_for(lab: &Lab, spec: &pgdb_runtime::spec::ServerSpec, sql: &str, wanted: &str) {
    let look = || async { (lab.sql(spec, "postgres", sql).await == wanted).then_some(()) };
    pgdb_testkit::wait::until(std::time::Duration::from_secs(20), sql, look).await;
}

async fn the_log_is_there_in_part_and_as_it_grows(on: &On) {
    let lab = Lab::new(on).await;
    let spec = lab.spec("logs").await;
    lab.up(&spec).await;
    let mut log = lab.runtime.logs(&spec, LogOptions { lines: 1000, follow: true }).await.expect("a log");
    lab.sql(&spec, "postgres", "DO $$ BEGIN RAISE LOG 'word %', 'one'; END $$").await;
    let (mut text, mut chunk) = (String::new(), vec![0; 4096]);
    while !text.contains("word one") {
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), log.read(&mut chunk)).await;
        let read = read.expect("in time").expect("read");
        assert!(read > 0, "it does not end");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
    assert!(text.contains("ready to accept connections"), "{text}");
    let mut last = String::new();
    let mut log = lab.runtime.logs(&spec, LogOptions { lines: 2, follow: false }).await.expect("a log");
    log.read_to_string(&mut last).await.expect("read");
    assert_eq!(last.lines().count(), 2, "{last}");
    assert!(!lab.runtime.last_log_lines(&spec).await.expect("read").is_empty());
}

async fn settings_change_with_a_new_start(on: &On) {
    let lab = Lab::new(on).await;
    let mut spec = lab.spec("grows").await;
    lab.up(&spec).await;
    lab.sql(&spec, PREPARED_DB, "CREATE TABLE t AS SELECT 1").await;
    lab.runtime.stop(&spec).await.expect("stopped");
    spec.settings.max_connections = 33;
    spec.memory_mb = Some(512);
    spec.port = crate::bed::free_port();
    lab.runtime.configure(&spec).await.expect("configured");
    lab.runtime.start(&spec).await.expect("started");
    assert_eq!(lab.sql(&spec, "postgres", "SHOW max_connections").await, "33");
    assert_eq!(lab.sql(&spec, PREPARED_DB, "SELECT count(*) FROM t").await, "1", "the data is the same");
    let (host, port) = lab.runtime.address(&spec);
    assert_eq!(port, spec.port);
    tokio::net::TcpStream::connect((host, port)).await.expect("it listens at its new port");
}
