//! Logs and client programs.

use crate::bed::Bed;
use pgdb_runtime::spec::{ADMIN_ROLE, LogOptions, OtherServer, Tool, ToolServer};
use pgdb_runtime::{ClientPrograms, Runtime, RuntimeError};
use std::fs;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_over_a_rotation() {
    let bed = Bed::new().await;
    let spec = bed.spec("logs").await;
    bed.up(&spec).await;
    let mut log = bed.runtime.logs(&spec, LogOptions { lines: 1000, follow: true }).await.expect("a log");
    let say = |word: &str| format!("DO $$ BEGIN RAISE LOG 'word %', '{word}'; END $$");
    bed.sql(&spec, "postgres", &say("one")).await;
    // Names are made of seconds: the next file needs a second of its own.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    bed.sql(&spec, "postgres", "SELECT pg_rotate_logfile()").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bed.sql(&spec, "postgres", &say("two")).await;
    let mut text = String::new();
    let mut chunk = vec![0; 4096];
    while !text.contains("word two") {
        let read = timeout(Duration::from_secs(10), log.read(&mut chunk)).await.expect("in time").expect("read");
        assert!(read > 0, "it does not end");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
    assert!(text.contains("word one") && text.contains("database system is ready"), "{text}");
    let files = || fs::read_dir(bed.instance(&spec).join("log")).expect("there").flatten().map(|e| e.file_name());
    assert!(files().filter(|name| name.to_string_lossy().starts_with("postgresql-")).count() >= 2);

    let mut last = String::new();
    let mut log = bed.runtime.logs(&spec, LogOptions { lines: 2, follow: false }).await.expect("a log");
    log.read_to_string(&mut last).await.expect("read");
    assert_eq!(last.lines().count(), 2, "{last}");

    for n in 0..15 {
        fs::write(bed.instance(&spec).join(format!("log/postgresql-20200101-0000{n:02}.log")), "old\n")
            .expect("written");
    }
    bed.runtime.prune_logs(&spec).await.expect("pruned");
    assert_eq!(files().filter(|name| name.to_string_lossy().starts_with("postgresql-")).count(), 10);
    let mut log = bed.runtime.logs(&spec, LogOptions { lines: 1, follow: false }).await.expect("a log");
    log.read_to_string(&mut last).await.expect("read");
    assert!(!last.contains("old"), "the newest stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_nobody_waits_for_is_killed() {
    let bed = Bed::new().await;
    let spec = bed.spec("dump").await;
    bed.up(&spec).await;
    let mark = format!("SELECT pg_sleep(100) /* {} */", bed.data_dir.display());
    let sleep = ["-c".to_owned(), mark.clone()];
    let asleep = Tool { program: "psql", args: &sleep, user: ADMIN_ROLE, password: None, db: "postgres", stdin: None };
    let running = bed.runtime.tool(&spec, asleep).await.expect("runs");
    assert!(runs(&mark));
    drop(running);
    for _ in 0..500 {
        if !runs(&mark) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_another_server_is_read_by_several_workers() {
    let bed = Bed::new().await;
    let (from, to) = (bed.spec("from").await, bed.spec("to").await);
    for spec in [&from, &to] {
        bed.up(spec).await;
        bed.sql(spec, "postgres", "CREATE ROLE u LOGIN PASSWORD 'a secret'").await;
        bed.sql(spec, "postgres", "CREATE DATABASE d OWNER u").await;
    }
    for n in 0..4 {
        let table = format!("CREATE TABLE t{n} AS SELECT generate_series(1, 1000) i; ALTER TABLE t{n} OWNER TO u");
        bed.sql(&from, "d", &table).await;
    }
    let password = "a secret".into();
    let folder = bed.runtime.scratch("job").await.expect("made");
    assert_eq!(bed.runtime.scratch("job").await.expect("made again"), folder);
    let dump = folder.join("dump").display().to_string();
    // Over the network, as the other server's own role.
    let other = OtherServer {
        host: "127.0.0.1".to_owned(),
        port: from.port,
        sslmode: "disable".to_owned(),
        sslrootcert: None,
        major: from.major,
    };
    let args = ["--format=directory", "--jobs=2", "--file", &dump].map(str::to_owned);
    let tool = Tool { program: "pg_dump", args: &args, user: "u", password: Some(&password), db: "d", stdin: None };
    let dumping = bed.runtime.client(ToolServer::Other(&other), tool).await.expect("runs");
    dumping.finished.await.expect("dumped");
    // Into an own server as its administrator, who needs no password.
    let args = ["--jobs=2", "--exit-on-error", "--dbname=d", &dump].map(str::to_owned);
    let tool = Tool { program: "pg_restore", args: &args, user: ADMIN_ROLE, password: None, db: "d", stdin: None };
    let restoring = bed.runtime.client(ToolServer::Own(&to), tool).await.expect("runs");
    restoring.finished.await.expect("restored");
    assert_eq!(bed.sql(&to, "d", "SELECT count(*) FROM t3").await, "1000");

    let upload = bed.data_dir.join("upload");
    fs::write(&upload, "a dump").expect("written");
    for _ in 0..2 {
        let lent = bed.runtime.lend(&upload, "job").await.expect("lent");
        assert_eq!((lent.as_path(), upload.exists()), (folder.join("upload").as_path(), false));
    }
    assert_eq!(bed.runtime.scratches().await.expect("listed"), ["job"]);
    bed.runtime.remove_scratch("job").await.expect("removed");
    bed.runtime.remove_scratch("job").await.expect("removed again");
    assert!(!folder.exists() && bed.runtime.scratch("../out").await.is_err());
    let newer = OtherServer { major: 99, ..other };
    let refused = Tool { program: "pg_dump", args: &[], user: "u", password: Some(&password), db: "d", stdin: None };
    let missing = bed.runtime.client(ToolServer::Other(&newer), refused).await;
    assert!(matches!(missing, Err(RuntimeError::ClientsMissing { major: 99, .. })));
}

/// Whether a process has this text among its arguments.
fn runs(text: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    arguments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|line| line.contains(text))
}
