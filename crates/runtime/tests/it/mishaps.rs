//! Bad days: each ends with a clear error or a whole server.

use crate::bed::{Bed, config, free_port, kill, spec, working_below};
use nix::sys::signal::Signal;
use pgdb_runtime::process::ProcessRuntime;
use pgdb_runtime::spec::{Observed, PREPARED_DB};
use pgdb_runtime::{Runtime, RuntimeError};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_starts_again_at_once() {
    let bed = Bed::new().await;
    let spec = bed.spec("killed").await;
    bed.up(&spec).await;
    bed.sql(&spec, PREPARED_DB, "CREATE TABLE t AS SELECT 1").await;
    for _ in 0..3 {
        let pid = bed.pid(&spec).await;
        let watch = bed.runtime.exited(&spec);
        kill(pid, Signal::SIGKILL);
        watch.await.expect("seen");
        assert_eq!(bed.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
        bed.runtime.start(&spec).await.expect("started");
        assert_ne!(bed.pid(&spec).await, pid);
    }
    assert_eq!(bed.sql(&spec, PREPARED_DB, "SELECT * FROM t").await, "1");
    // A child that hangs keeps the shared memory of a killed server; a start must not wait for it.
    let pid = bed.pid(&spec).await;
    let child = working_below(&bed.instance(&spec)).into_iter().find(|child| *child != pid).expect("children");
    kill(child, Signal::SIGSTOP);
    kill(pid, Signal::SIGKILL);
    bed.runtime.start(&spec).await.expect("started");
    kill(bed.pid(&spec).await, Signal::SIGKILL);
    bed.runtime.stop(&spec).await.expect("stopped");
    assert!(working_below(&bed.instance(&spec)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_stopped_by_force() {
    let bed = Bed::new().await;
    let mut short = config(&bed.data_dir);
    short.stop_timeout = Duration::from_millis(300);
    let runtime = ProcessRuntime::new(short).await.expect("opened");
    let spec = bed.spec("hangs").await;
    bed.up(&spec).await;
    for pid in working_below(&bed.instance(&spec)) {
        kill(pid, Signal::SIGSTOP);
    }
    runtime.stop(&spec).await.expect("stopped");
    assert!(working_below(&bed.instance(&spec)).is_empty());
    bed.runtime.start(&spec).await.expect("started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told() {
    let bed = Bed::new().await;
    let mut spec = bed.spec("port").await;
    bed.runtime.create(&spec).await.expect("created");
    bed.runtime.configure(&spec).await.expect("configured");
    let taken = TcpListener::bind((spec.listen, spec.port)).expect("bound");
    let error = bed.runtime.start(&spec).await.expect_err("taken");
    assert!(matches!(error, RuntimeError::PortTaken { port } if port == spec.port), "{error}");
    // The next port is tried.
    spec.port = free_port();
    bed.runtime.configure(&spec).await.expect("configured");
    bed.runtime.start(&spec).await.expect("started");
    assert_eq!(bed.sql(&spec, "postgres", "SHOW port").await, spec.port.to_string());
    drop(taken);
    // PostgreSQL itself finds the port taken when it is configured for another than we checked.
    let mut other = bed.spec("port2").await;
    other.port = spec.port;
    bed.runtime.create(&other).await.expect("created");
    bed.runtime.configure(&other).await.expect("configured");
    other.port = free_port();
    let error = bed.runtime.start(&other).await.expect_err("taken");
    assert!(matches!(error, RuntimeError::PortTaken { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_pid_file_does_not_stop_a_start() {
    let bed = Bed::new().await;
    let spec = bed.spec("stale").await;
    bed.up(&spec).await;
    let socket = match bed.runtime.admin_target(&spec) {
        pgdb_runtime::spec::AdminTarget::Socket { dir, port } => dir.join(format!(".s.PGSQL.{port}.lock")),
        other => panic!("{other:?}"),
    };
    let (path, lock) = (bed.instance(&spec).join("data/postmaster.pid"), fs::read_to_string(&socket).expect("read"));
    let text = fs::read_to_string(&path).expect("read");
    let pid = bed.pid(&spec).await;
    bed.runtime.stop(&spec).await.expect("stopped");
    // Its number belongs to another server of ours by now: a live process of the same user, also `postgres`.
    let other = bed.spec("alive").await;
    bed.up(&other).await;
    let alive = bed.pid(&other).await;
    let stale = text.replacen(&pid.to_string(), &alive.to_string(), 1);
    fs::write(&path, &stale).expect("written");
    fs::write(&socket, lock.replacen(&pid.to_string(), &alive.to_string(), 1)).expect("written");
    assert_eq!(bed.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
    bed.runtime.stop(&spec).await.expect("nothing to stop");
    assert_eq!(bed.pid(&other).await, alive, "the other one was left alone");
    fs::write(&path, &stale).expect("written");
    bed.runtime.start(&spec).await.expect("started");
    assert_eq!(bed.pid(&other).await, alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_alone() {
    let bed = Bed::new().await;
    let spec = bed.spec("foreign").await;
    let data = bed.instance(&spec).join("data");
    fs::create_dir_all(&data).expect("made");
    fs::write(data.join("precious"), "text").expect("written");
    for error in [
        bed.runtime.create(&spec).await.expect_err("not ours"),
        bed.runtime.configure(&spec).await.expect_err("not ours"),
        bed.runtime.start(&spec).await.expect_err("not ours"),
    ] {
        assert!(matches!(error, RuntimeError::NotOurs { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(data.join("precious")).expect("read"), "text");
    fs::write(data.join("PG_VERSION"), "9.6\n").expect("written");
    assert!(matches!(bed.runtime.start(&spec).await, Err(RuntimeError::NotOurs { .. })));
    let other = spec.major + 1;
    fs::write(data.join("PG_VERSION"), format!("{other}\n")).expect("written");
    assert!(matches!(bed.runtime.start(&spec).await, Err(RuntimeError::NotOurs { .. })));
    if crate::bed::is_root() {
        fs::write(data.join("PG_VERSION"), format!("{}\n", spec.major)).expect("written");
        let error = bed.runtime.start(&spec).await.expect_err("root's");
        assert!(matches!(error, RuntimeError::NotOurs { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_half_way_is_made_again() {
    let bed = Bed::new().await;
    let spec = bed.spec("partial").await;
    let partial = bed.instance(&spec).join("data.partial");
    fs::create_dir_all(partial.join("base")).expect("made");
    fs::write(partial.join("PG_VERSION"), "1").expect("written");
    assert_eq!(bed.runtime.observe(&spec).await.expect("observed"), Observed::Missing);
    bed.up(&spec).await;
    assert!(!partial.exists());

    // A copy that the machine's end may have torn is made again, unless it has been used.
    let torn = bed.spec("torn").await;
    bed.runtime.create(&torn).await.expect("created");
    let version = bed.instance(&torn).join("data/PG_VERSION");
    fs::write(&version, "").expect("torn");
    fs::write(bed.instance(&torn).join("unsynced"), "another boot").expect("written");
    bed.up(&torn).await;
    fs::write(bed.instance(&torn).join("unsynced"), "another boot").expect("written");
    let pid = bed.pid(&torn).await;
    bed.up(&torn).await;
    assert_eq!(bed.pid(&torn).await, pid);
    bed.runtime.sync(&torn).await.expect("synced");
    assert!(!bed.instance(&torn).join("unsynced").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_told_with_its_reason() {
    let bed = Bed::new().await;
    let spec = bed.spec("bad").await;
    bed.runtime.create(&spec).await.expect("created");
    bed.runtime.configure(&spec).await.expect("configured");
    let custom = bed.instance(&spec).join("data/custom.conf");
    fs::write(&custom, "shared_preload_libraries = 'no_such_library'\n").expect("written");
    fs::set_permissions(&custom, fs::Permissions::from_mode(0o644)).expect("opened");
    let RuntimeError::ServerFailed { reason, log } = bed.runtime.start(&spec).await.expect_err("bad") else {
        panic!("another error")
    };
    assert!(reason.contains("no_such_library"), "{reason}");
    assert!(!log.is_empty() && log.len() <= 20);
    let lines = bed.runtime.last_log_lines(&spec).await.expect("read");
    assert!(lines.iter().any(|line| line.contains("no_such_library")), "{lines:?}");
    fs::write(&custom, "work_mem = '7MB'\n").expect("written");
    bed.runtime.start(&spec).await.expect("started");
    assert_eq!(bed.sql(&spec, "postgres", "SHOW work_mem").await, "7MB", "one's own settings win");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_data_directory_has_short_sockets() {
    let bed = Bed::at(&format!("{}/{}", "d".repeat(60), "e".repeat(60))).await;
    let spec = bed.spec("long").await;
    bed.up(&spec).await;
    assert_eq!(bed.sql(&spec, "postgres", "SELECT 1").await, "1");
    bed.runtime.discard(&spec.id).await.expect("discarded");
    assert!(bed.runtime.inventory().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_servers_cannot_reach_is_told() {
    if !crate::bed::is_root() {
        // Without root, servers are the same user as we are and reach what we reach; the mode is then our own.
        let bed = Bed::new().await;
        bed.runtime.prepare(bed.newest().await.major).await.expect("prepared");
        return;
    }
    let bed = Bed::at("closed/pgdb").await;
    let closed = bed.data_dir.parent().expect("a parent").to_owned();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
    let error = bed.runtime.prepare(bed.newest().await.major).await.expect_err("closed").to_string();
    assert!(error.contains(&format!("may not enter {};", closed.display())), "{error}");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("opened");
    bed.runtime.prepare(bed.newest().await.major).await.expect("prepared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_engine_is_told_with_those_that_are_there() {
    let bed = Bed::new().await;
    let error = bed.runtime.create(&spec("old", 12)).await.expect_err("no such engine");
    assert!(matches!(error, RuntimeError::EngineMissing { major: 12, ref found } if !found.is_empty()), "{error}");
    assert!(bed.runtime.create(&spec("../evil", 15)).await.is_err(), "an id cannot leave its folder");
}
