//! What every server goes through.

use crate::bed::{Bed, open, spec, working_below};
use pgdb_runtime::spec::{Observed, PREPARED_DB, PREPARED_ROLE, TlsFiles};
use pgdb_runtime::{Runtime, RuntimeError};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_prepares_copies_starts_stops_and_is_removed() {
    let bed = Bed::new().await;
    let engines = bed.runtime.engines().await.expect("engines");
    assert!(!engines.is_empty(), "these tests need PostgreSQL");
    assert!(engines.is_sorted_by(|a, b| a.major > b.major));
    for engine in engines {
        println!("PostgreSQL {} in {}", engine.version, engine.bin_dir.display());
        bed.runtime.prepare(engine.major).await.expect("prepared");
        let one = spec(&format!("a{}", engine.major), engine.major);
        let other = spec(&format!("b{}", engine.major), engine.major);
        assert_eq!(bed.runtime.observe(&one).await.expect("observed"), Observed::Missing);
        bed.runtime.create(&one).await.expect("created");
        assert_eq!(bed.runtime.observe(&one).await.expect("observed"), Observed::Stopped);
        bed.up(&one).await;
        bed.up(&other).await;
        for spec in [&one, &other] {
            assert!(matches!(bed.runtime.observe(spec).await, Ok(Observed::Running { pid: Some(_), .. })));
            let found = bed.sql(spec, "postgres", "SELECT system_identifier FROM pg_control_system()").await;
            assert_eq!(found, spec.system_identifier.to_string(), "its own system identifier");
            assert_eq!(bed.sql(spec, "postgres", "SHOW data_checksums").await, "on");
            assert_eq!(bed.sql(spec, "postgres", "SHOW password_encryption").await, "scram-sha-256");
            assert_eq!(bed.sql(spec, "postgres", "SHOW server_encoding").await, "UTF8");
            assert_eq!(bed.sql(spec, "postgres", "SHOW cluster_name").await, spec.name);
            let ready = "SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, \
                         has_database_privilege('pg_monitor', d.oid, 'CONNECT') \
                         FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = ";
            let createrole = if engine.major >= 16 { "t" } else { "f" };
            assert_eq!(
                bed.sql(spec, "postgres", &format!("{ready}'{PREPARED_DB}'")).await,
                format!("{PREPARED_ROLE}|f|f|t|{createrole}|f")
            );
            let can_create = format!("SELECT has_schema_privilege('{PREPARED_ROLE}', 'public', 'CREATE')");
            assert_eq!(bed.sql(spec, PREPARED_DB, &can_create).await, "t");
            // It works, and goes on working after its log and checkpoints were used in earnest.
            let table = "CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i; CHECKPOINT";
            bed.sql(spec, PREPARED_DB, table).await;
            bed.runtime.stop(spec).await.expect("stopped");
            assert_eq!(bed.runtime.observe(spec).await.expect("observed"), Observed::Stopped);
            assert!(working_below(&bed.instance(spec)).is_empty(), "no process is left");
            bed.runtime.start(spec).await.expect("started again");
            assert_eq!(bed.sql(spec, PREPARED_DB, "SELECT count(*) FROM t").await, "20000");
            bed.runtime.stop(spec).await.expect("stopped");
            bed.runtime.remove(spec).await.expect("removed");
            assert_eq!(bed.runtime.observe(spec).await.expect("observed"), Observed::Missing);
        }
    }
    assert_eq!(bed.runtime.inventory().await.expect("listed"), Vec::<String>::new());
    assert_eq!(fs::read_dir(bed.data_dir.join("trash")).expect("there").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_one_preparation() {
    let bed = Bed::new().await;
    let major = bed.newest().await.major;
    let specs: Vec<_> = (0..4).map(|n| spec(&format!("m{n}"), major)).collect();
    futures::future::join_all(specs.iter().map(|spec| bed.up(spec))).await;
    let names: Vec<_> =
        fs::read_dir(bed.data_dir.join("prepared")).expect("there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 2, "one directory and its lock: {names:?}");
    assert_eq!(bed.runtime.inventory().await.expect("listed"), ["m0", "m1", "m2", "m3"]);
    for spec in &specs {
        bed.runtime.discard(&spec.id).await.expect("discarded");
    }
    assert!(bed.runtime.inventory().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_finds_and_stops_what_an_older_one_started() {
    let bed = Bed::new().await;
    let spec = bed.spec("adopted").await;
    bed.up(&spec).await;
    let pid = bed.pid(&spec).await;
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
    let fields: Vec<&str> = session.rsplit(')').next().expect("fields").split_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session of its own");

    let newer = open(&bed.data_dir).await;
    assert_eq!(newer.observe(&spec).await.expect("observed"), Observed::Running { pid: Some(pid), container: None });
    newer.start(&spec).await.expect("nothing to do");
    let waits = tokio::spawn({
        let runtime = open(&bed.data_dir).await;
        let spec = spec.clone();
        async move { runtime.exited(&spec).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!waits.is_finished());
    newer.stop(&spec).await.expect("stopped");
    waits.await.expect("joined").expect("saw its end");
    assert_eq!(bed.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_data_comes_back_and_is_never_replaced() {
    let bed = Bed::new().await;
    let free = BTreeSet::new();
    let mut first = bed.spec("k1").await;
    first.volume = "pgdb-orders".to_owned();
    bed.up(&first).await;
    bed.sql(&first, PREPARED_DB, "CREATE TABLE t AS SELECT 41 + 1 AS answer").await;
    bed.runtime.stop(&first).await.expect("stopped");
    assert_eq!(bed.runtime.kept("pgdb-orders").await.expect("looked"), None);
    assert_eq!(bed.runtime.keep(&first, &free).await.expect("kept"), "pgdb-orders");
    assert_eq!(bed.runtime.keep(&first, &free).await.expect("again"), "pgdb-orders");
    assert_eq!(bed.runtime.kept("pgdb-orders").await.expect("looked"), Some(first.major));
    assert_eq!(bed.runtime.observe(&first).await.expect("observed"), Observed::Missing);

    let mut second = bed.spec("k2").await;
    second.volume = first.volume.clone();
    bed.runtime.create(&second).await.expect("created");
    assert!(matches!(bed.runtime.restore_kept("pgdb-orders", &second).await, Err(RuntimeError::NotOurs { .. })));
    let reserved = BTreeSet::from(["pgdb-orders-2".to_owned()]);
    assert_eq!(bed.runtime.keep(&second, &reserved).await.expect("kept"), "pgdb-orders-3");

    let mut third = bed.spec("k3").await;
    third.major = if third.major == 13 { 14 } else { third.major - 1 };
    assert!(bed.runtime.restore_kept("pgdb-orders", &third).await.is_err(), "of another major");
    third.major = first.major;
    for _ in 0..2 {
        bed.runtime.restore_kept("pgdb-orders", &third).await.expect("restored");
    }
    bed.runtime.configure(&third).await.expect("configured");
    bed.runtime.start(&third).await.expect("started");
    assert_eq!(bed.sql(&third, PREPARED_DB, "SELECT answer FROM t").await, "42");
    assert_eq!(bed.runtime.kept("pgdb-orders").await.expect("looked"), None);
    assert!(bed.runtime.keep(&bed.spec("nobody").await, &free).await.is_err());
    assert!(bed.runtime.kept("../instances").await.is_err(), "a name cannot leave its folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_that_was_killed_half_way_is_finished() {
    let bed = Bed::new().await;
    let spec = bed.spec("half").await;
    bed.runtime.create(&spec).await.expect("created");
    let kept = bed.data_dir.join("kept").join(&spec.volume);
    fs::create_dir(&kept).expect("made");
    fs::write(kept.join("origin"), &spec.id).expect("written");
    fs::rename(bed.instance(&spec).join("data"), kept.join("data")).expect("moved");
    assert_eq!(bed.runtime.keep(&spec, &BTreeSet::new()).await.expect("finished"), spec.volume);
    assert!(!bed.instance(&spec).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_refuses_plain_connections_and_keeps_its_key_private() {
    let bed = Bed::new().await;
    let mut spec = bed.spec("tls").await;
    let dir = tempfile::tempdir().expect("a folder");
    let (key, cert) = (dir.path().join("k"), dir.path().join("c"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl runs");
    assert!(made.status.success());
    spec.tls = Some(TlsFiles {
        certificate_pem: fs::read_to_string(&cert).expect("read"),
        key_pem: fs::read_to_string(&key).expect("read").into(),
    });
    bed.up(&spec).await;
    assert_eq!(bed.sql(&spec, "postgres", "SHOW ssl").await, "on");
    let key = fs::metadata(bed.instance(&spec).join("tls/server.key")).expect("there");
    assert_eq!(key.mode() & 0o777, 0o600);
    bed.sql(&spec, "postgres", "CREATE ROLE u LOGIN PASSWORD 'p'").await;
    let engine = bed.newest().await;
    let connect = |mode: &str, user: &str| {
        let url = format!("postgres://{user}:p@127.0.0.1:{}/postgres?sslmode={mode}", spec.port);
        let psql = engine.bin_dir.join("psql");
        std::process::Command::new(psql).args([&url, "-Xtc", "SELECT 1"]).output().expect("psql runs").status.success()
    };
    assert!(connect("require", "u"));
    assert!(!connect("disable", "u"));
    assert!(!connect("require", "pgdb_admin"));
    spec.tls = None;
    bed.runtime.stop(&spec).await.expect("stopped");
    bed.runtime.configure(&spec).await.expect("configured");
    bed.runtime.start(&spec).await.expect("started");
    assert!(connect("disable", "u"));
    assert!(!bed.instance(&spec).join("tls").exists());
}
