//! Servers made, started, killed, kept and removed.

use pgdb_core::instance::RequestedSettings;
use pgdb_core::sizing::plan_settings;
use pgdb_runtime::process::{ProcessConfig, ProcessRuntime, machine};
use pgdb_runtime::spec::{Observed, ServerSpec};
use pgdb_runtime::{Runtime, RuntimeError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

struct Bench {
    folder: tempfile::TempDir,
    runtime: ProcessRuntime,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgdb-rt-").tempdir_in("/tmp").expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("opened up");
        let runtime = runtime(folder.path().to_owned());
        Self { folder, runtime }
    }

    async fn made(&self, id: &str) -> ServerSpec {
        let major = self.runtime.engines().await.expect("engines")[0].major;
        let spec = spec(id, major);
        self.runtime.prepare(major).await.expect("prepared");
        self.runtime.create(&spec).await.expect("created");
        self.runtime.configure(&spec).await.expect("configured");
        spec
    }

    async fn pid(&self, spec: &ServerSpec) -> i32 {
        match self.runtime.observe(spec).await.expect("observed") {
            Observed::Running { pid: Some(pid) } => i32::try_from(pid).expect("a pid"),
            other => panic!("it is {other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Only processes that work in this test's own folder.
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let ours =
                std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.folder.path()));
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| ours) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn runtime(data_dir: PathBuf) -> ProcessRuntime {
    ProcessRuntime::new(ProcessConfig {
        data_dir,
        engines_dir: std::env::var_os("PGDB_ENGINES_DIR").map(PathBuf::from),
        path: None,
        run_as: "postgres".to_owned(),
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(20),
    })
}

fn spec(id: &str, major: u16) -> ServerSpec {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
    ServerSpec {
        id: id.to_owned(),
        name: format!("name-{id}"),
        volume: format!("pgdb-{id}"),
        major,
        listen: Ipv4Addr::LOCALHOST.into(),
        port,
        settings: plan_settings(machine(), &RequestedSettings { memory_mb: Some(128), max_connections: Some(20) }),
        tls: None,
        system_identifier: 0x1234_5678_9abc_def0,
    }
}

#[tokio::test]
async fn every_engine_runs_and_every_call_can_be_repeated() {
    let bench = Bench::new();
    for engine in bench.runtime.engines().await.expect("engines") {
        let spec = spec(&format!("in_{}", engine.major), engine.major);
        for _ in 0..2 {
            bench.runtime.prepare(engine.major).await.expect("prepared");
            bench.runtime.create(&spec).await.expect("created");
            bench.runtime.configure(&spec).await.expect("configured");
        }
        assert_eq!(bench.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
        for _ in 0..2 {
            let begin = tokio::time::Instant::now();
            bench.runtime.start(&spec).await.unwrap_or_else(|error| panic!("{}: {error:?}", engine.version));
            println!("{} started in {:?}", engine.version, begin.elapsed());
        }
        let control = std::process::Command::new(engine.bin_dir.join("pg_controldata"))
            .arg(bench.folder.path().join(format!("instances/{}/data", spec.id)))
            .output()
            .expect("pg_controldata");
        let control = String::from_utf8_lossy(&control.stdout).into_owned();
        assert!(control.contains(&spec.system_identifier.to_string()), "{control}");
        for _ in 0..2 {
            bench.runtime.stop(&spec).await.expect("stopped");
        }
        assert_eq!(bench.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
        for _ in 0..2 {
            bench.runtime.remove(&spec).await.expect("removed");
        }
        assert_eq!(bench.runtime.observe(&spec).await.expect("observed"), Observed::Missing);
    }
    assert_eq!(bench.runtime.inventory().await.expect("inventory"), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_starts_again() {
    let bench = Bench::new();
    let spec = bench.made("in_killed").await;
    bench.runtime.start(&spec).await.expect("started");
    let pid = bench.pid(&spec).await;
    let again = runtime(bench.folder.path().to_owned());
    let waiting = async { again.exited(&spec).await.expect("waited") };
    let killing = async {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("killed")
    };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(waiting, killing) }).await.expect("noticed");
    bench.runtime.start(&spec).await.expect("started again");
    assert_ne!(bench.pid(&spec).await, pid);
    bench.runtime.stop(&spec).await.expect("stopped");
}

#[tokio::test]
async fn a_taken_port_is_told_apart_from_other_failures() {
    let bench = Bench::new();
    let spec = bench.made("in_port").await;
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, spec.port)).expect("taken");
    let error = bench.runtime.start(&spec).await.expect_err("refused");
    assert!(matches!(error, RuntimeError::PortTaken { port } if port == spec.port), "{error:?}");
}

#[tokio::test]
async fn a_pid_file_that_names_another_program_counts_for_nothing() {
    let bench = Bench::new();
    let spec = bench.made("in_stale").await;
    let file = bench.folder.path().join("instances/in_stale/data/postmaster.pid");
    std::fs::write(&file, format!("{}\n/x\n1\n{}\n/x\n127.0.0.1\n 1 1\nready   \n", std::process::id(), spec.port))
        .expect("written");
    assert_eq!(bench.runtime.observe(&spec).await.expect("observed"), Observed::Stopped);
    bench.runtime.start(&spec).await.expect("started");
    bench.runtime.stop(&spec).await.expect("stopped");
}

#[tokio::test]
async fn kept_data_is_found_again_and_never_overwritten() {
    let bench = Bench::new();
    let first = bench.made("in_first").await;
    let second = ServerSpec { volume: first.volume.clone(), ..bench.made("in_second").await };
    assert_eq!(bench.runtime.keep(&first).await.expect("kept"), first.volume);
    assert_eq!(bench.runtime.keep(&first).await.expect("again"), first.volume);
    bench.runtime.remove(&first).await.expect("the rest removed");
    let other = bench.runtime.keep(&second).await.expect("kept");
    assert_eq!(other, format!("{}-2", first.volume));
    assert_eq!(bench.runtime.kept(&other).await.expect("looked"), Some(second.major));
    let third = spec("in_third", first.major);
    bench.runtime.restore_kept(&first.volume, &third).await.expect("taken into use");
    bench.runtime.configure(&third).await.expect("configured");
    bench.runtime.start(&third).await.expect("started");
    bench.runtime.stop(&third).await.expect("stopped");
    assert_eq!(bench.runtime.kept(&first.volume).await.expect("looked"), None);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_untouched() {
    let bench = Bench::new();
    let spec = bench.made("in_foreign").await;
    let data = bench.folder.path().join("instances/in_foreign/data");
    std::fs::write(data.join("PG_VERSION"), "9.6\n").expect("written");
    let error = bench.runtime.start(&spec).await.expect_err("refused");
    assert!(matches!(&error, RuntimeError::NotOurs { detail, .. } if detail.contains('9')), "{error:?}");
}

#[tokio::test]
async fn an_engine_that_is_not_here_names_those_that_are() {
    let bench = Bench::new();
    let error = bench.runtime.prepare(13).await.expect_err("13 is not installed for tests");
    assert!(matches!(&error, RuntimeError::EngineMissing { major: 13, found } if !found.is_empty()), "{error}");
}
