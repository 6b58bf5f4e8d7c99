//! A data directory of its own for each test, and nothing left of it afterwards.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pgdb_core::sizing::ServerSettings;
use pgdb_runtime::Runtime;
use pgdb_runtime::process::{ProcessConfig, ProcessRuntime};
use pgdb_runtime::spec::{ADMIN_ROLE, AdminTarget, Engine, Observed, ServerSpec};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(crate) struct Bed {
    pub(crate) runtime: ProcessRuntime,
    pub(crate) data_dir: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("opened");
        let data_dir = dir.path().join("pgdb");
        Self { runtime: open(&data_dir).await, data_dir, _dir: dir }
    }

    /// As [`Bed::new`], with the data directory at a path below the folder.
    pub(crate) async fn at(below: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("opened");
        let data_dir = dir.path().join(below);
        Self { runtime: open(&data_dir).await, data_dir, _dir: dir }
    }

    pub(crate) async fn newest(&self) -> Engine {
        self.runtime.engines().await.expect("engines").remove(0)
    }

    pub(crate) async fn spec(&self, id: &str) -> ServerSpec {
        spec(id, self.newest().await.major)
    }

    /// Makes and starts a server.
    pub(crate) async fn up(&self, spec: &ServerSpec) {
        self.runtime.create(spec).await.expect("created");
        self.runtime.configure(spec).await.expect("configured");
        self.runtime.start(spec).await.expect("started");
    }

    pub(crate) async fn pid(&self, spec: &ServerSpec) -> u32 {
        match self.runtime.observe(spec).await.expect("observed") {
            Observed::Running { pid: Some(pid), .. } => pid,
            other => panic!("not running: {other:?}"),
        }
    }

    pub(crate) fn instance(&self, spec: &ServerSpec) -> PathBuf {
        self.data_dir.join("instances").join(&spec.id)
    }

    /// Runs SQL as the administrator, over the private socket.
    pub(crate) async fn sql(&self, spec: &ServerSpec, db: &str, sql: &str) -> String {
        let engines = self.runtime.engines().await.expect("engines");
        let engine = engines.into_iter().find(|engine| engine.major == spec.major).expect("its engine");
        let AdminTarget::Socket { dir, port } = self.runtime.admin_target(spec) else { panic!("no socket") };
        let output = Command::new(engine.bin_dir.join("psql"))
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", ADMIN_ROLE, "-d", db, "-c", sql])
            .arg("-h")
            .arg(dir)
            .args(["-p", &port.to_string()])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Whatever works below our folder is ours, also when the test failed. SIGKILL comes late: a server that gets it
        // leaves its shared memory behind.
        for round in 0..300 {
            let left = working_below(&self.data_dir);
            if left.is_empty() {
                break;
            }
            let signal = if round < 200 { Signal::SIGQUIT } else { Signal::SIGKILL };
            for pid in left {
                kill(pid, signal);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let empty = std::fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
            let name = name.to_string_lossy();
            let hash = name.strip_prefix("pgdb-").unwrap_or_default();
            if hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && empty {
                std::fs::remove_dir(entry.path()).ok();
            }
        }
    }
}

pub(crate) async fn open(data_dir: &Path) -> ProcessRuntime {
    ProcessRuntime::new(config(data_dir)).await.expect("opened")
}

pub(crate) fn config(data_dir: &Path) -> ProcessConfig {
    ProcessConfig {
        data_dir: data_dir.to_owned(),
        engines_dir: std::env::var_os("PGDB_ENGINES_DIR").map(PathBuf::from),
        path: std::env::var_os("PATH"),
        run_as: None,
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(30),
    }
}

pub(crate) fn spec(id: &str, major: u16) -> ServerSpec {
    ServerSpec {
        id: id.to_owned(),
        name: format!("name-{id}"),
        volume: format!("pgdb-{id}"),
        major,
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: free_port(),
        settings: ServerSettings {
            max_connections: 20,
            shared_buffers_mb: 16,
            effective_cache_size_mb: 64,
            work_mem_mb: 4,
            maintenance_work_mem_mb: 16,
            max_wal_size_mb: 256,
            workers: 2,
        },
        tls: None,
        system_identifier: 0x7000_0000_0000_0000 + u64::from(crc(id)),
        size_gb: None,
        memory_mb: None,
        admin_verifier: None,
        container: None,
    }
}

fn crc(id: &str) -> u32 {
    id.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

/// A port below those that the system gives to clients and to other crates' tests, so that nobody takes it between the
/// look and the use. Each test is a process, and those that run beside each other have other numbers.
pub(crate) fn free_port() -> u16 {
    const EACH: u16 = 40;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + u16::try_from(std::process::id() % 130).expect("small") * EACH;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % EACH;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    // It may have ended by itself.
    let _ = signal::kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// Processes whose working directory is below a folder.
pub(crate) fn working_below(dir: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir))).collect()
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("/proc").uid() == 0
}
