//! The real daemon as a child process, with everything it keeps in a folder of its own.

use crate::api::{Api, Body};
use crate::block::Block;
use crate::docker::Engine;
use crate::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How long a daemon may take to start, to end, or to be killed by a fault.
const LIMIT: Duration = Duration::from_secs(30);
/// What a daemon gets of the environment of the tests.
const PASSED_ON: [&str; 6] =
    ["PATH", "LD_LIBRARY_PATH", "PGDB_ENGINES_DIR", "RUST_BACKTRACE", "TZ", "LLVM_PROFILE_FILE"];

/// A daemon with its folder. Dropping it ends it and every server in its folder, and removes the folder.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    binary: PathBuf,
    data_dir: PathBuf,
    env: BTreeMap<String, String>,
    api: Api,
    block: Block,
    engine: Option<Arc<Engine>>,
}

/// A daemon can be asked like a client.
impl Deref for Daemon {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Daemon {
    /// A place for a daemon, which does not run yet. `binary` is `env!("CARGO_BIN_EXE_pgdb")` of the test.
    pub fn prepare(binary: &str) -> Self {
        let block = Block::take();
        let token = random_token();
        let (first, last) = block.ports;
        let mut env: BTreeMap<String, String> =
            PASSED_ON.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
        env.insert("HOME".to_owned(), block.folder.join("home").display().to_string());
        env.insert("PGDB_TOKEN".to_owned(), token.clone());
        // Everything that can be logged, ours and others': no secret may be in any of it.
        env.insert("PGDB_LOG".to_owned(), "trace,mio=info,polling=info".to_owned());
        env.insert("PGDB_PORT_RANGE".to_owned(), format!("{first}-{last}"));
        let api = Api::new(block.http_port, &token);
        Self { child: None, binary: binary.into(), data_dir: block.folder.join("data"), env, api, block, engine: None }
    }

    /// A daemon that runs.
    pub async fn start(binary: &str) -> Self {
        let mut daemon = Self::prepare(binary);
        daemon.up(&[]).await;
        daemon
    }

    /// Runs databases in containers of this engine when nothing else is said, from the next start on.
    pub(crate) fn use_engine(&mut self, engine: Arc<Engine>) {
        self.set_env("PGDB_RUNTIME", "docker");
        self.set_env("DOCKER_HOST", &engine.host());
        // Nothing can be pulled by tests.
        self.set_env("PGDB_DOCKER_PULL", "never");
        self.engine = Some(engine);
    }

    /// The engine that its databases run in.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_deref()
    }

    /// Sets a variable of the daemon's environment, from its next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Gives out only the first `count` ports of the block, from the next start on.
    pub fn narrow_ports(&mut self, count: u16) {
        let first = self.first_port();
        self.set_env("PGDB_PORT_RANGE", &format!("{first}-{}", first + count - 1));
    }

    /// The first port that the daemon gives out.
    pub fn first_port(&self) -> u16 {
        self.block.ports.0
    }

    /// Whether a port is one of this test's.
    pub fn owns_port(&self, port: u16) -> bool {
        (self.block.ports.0..=self.block.ports.1).contains(&port)
    }

    /// Where the daemon listens.
    pub fn http_port(&self) -> u16 {
        self.block.http_port
    }

    /// The token that may do everything.
    pub fn token(&self) -> &str {
        &self.env["PGDB_TOKEN"]
    }

    /// The test's own folder, removed in the end.
    pub fn folder(&self) -> &Path {
        &self.block.folder
    }

    /// What the daemon is given as `PGDB_DATA_DIR`.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Keeps the daemon's data somewhere else, for a test that needs another file system.
    pub fn place_data_in(&mut self, folder: &Path) {
        self.data_dir = folder.to_owned();
    }

    /// The state file.
    pub fn state_file(&self) -> PathBuf {
        self.data_dir.join("state.db")
    }

    /// The daemon's log of all its runs.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.block.folder.join("daemon.log")
    }

    /// The process id of the running daemon.
    pub fn pid(&self) -> i32 {
        self.running_pid().expect("the daemon runs")
    }

    /// The same, if it was started.
    pub(crate) fn running_pid(&self) -> Option<i32> {
        i32::try_from(self.child.as_ref()?.id()).ok()
    }

    /// `pgdb` with this daemon's environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(&self.env).env("PGDB_DATA_DIR", &self.data_dir).current_dir(&self.block.folder);
        command
    }

    /// Starts the daemon with more in its environment and returns once it is ready.
    pub async fn up(&mut self, extra: &[(&str, &str)]) {
        self.spawn(extra);
        self.wait_ready().await;
    }

    /// Starts the daemon and returns at once.
    pub fn spawn(&mut self, extra: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("open the daemon's log");
        let mut command = self.command();
        let address = format!("127.0.0.1:{}", self.block.http_port);
        command.arg("serve").arg("--listen").arg(&address).env("PGDB_LISTEN", &address);
        command.envs(extra.iter().copied()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("share the daemon's log")).stderr(log);
        self.child = Some(command.spawn().expect("start the daemon"));
    }

    /// Waits until the daemon says that it is ready. Panics with its log when it ends instead.
    pub async fn wait_ready(&mut self) {
        let Self { child, api, .. } = self;
        let child = child.as_mut().expect("the daemon was started");
        let waiting = async {
            loop {
                let ready = api.try_send(Method::GET, "/readiness", Body::None).await;
                if ready.is_ok_and(|answer| answer.status == 200) {
                    return Ok(());
                }
                if let Some(status) = child.try_wait().expect("look after the daemon") {
                    return Err(format!("it ended with {status}"));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let outcome = tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| Err(format!("not in {LIMIT:?}")));
        if let Err(why) = outcome {
            self.child = self.child.take().filter(|_| !why.starts_with("it ended"));
            panic!("the daemon did not become ready: {why}");
        }
    }

    /// Starts `pgdb serve` once more on the same data, for a start that has to fail, and returns how it ended.
    pub async fn fails_to_start(&self, listen_port: u16, extra: &[(&str, &str)]) -> Output {
        let mut command = self.command();
        let address = format!("127.0.0.1:{listen_port}");
        command.arg("serve").arg("--listen").arg(&address).env("PGDB_LISTEN", &address);
        // Into files, which never fill up as pipes do.
        let paths = ["failed.out", "failed.err"].map(|name| self.block.folder.join(name));
        let [stdout, stderr] = [&paths[0], &paths[1]].map(|path| File::create(path).expect("make a file"));
        command.envs(extra.iter().copied()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().expect("start a second daemon");
        let ended = tokio::time::timeout(LIMIT, async {
            loop {
                if let Some(status) = child.try_wait().expect("look after the daemon") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let status = ended.await;
        let [stdout, stderr] = paths.map(|path| fs::read(path).expect("read what the daemon said"));
        let Ok(status) = status else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon did not end, and said: {}", String::from_utf8_lossy(&stderr));
        };
        Output { status, stdout, stderr }
    }

    /// SIGKILL, and waits until the daemon is gone.
    pub async fn kill9(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("kill the daemon");
        wait_for_end(&mut child).await;
    }

    /// SIGTERM, and waits until the daemon is gone.
    pub async fn stop(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).expect("ask the daemon to end");
        self.ended().await
    }

    /// Waits until the daemon has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon was started");
        wait_for_end(&mut child).await
    }

    /// Whether the daemon has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// SIGKILL and a new start, with more in its environment.
    pub async fn crash_and_restart(&mut self, extra: &[(&str, &str)]) {
        if self.child.is_some() {
            self.kill9().await;
        }
        self.up(extra).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        crate::processes::end_all_in(&self.data_dir);
        if std::thread::panicking() {
            let log = self.log();
            let fine = |line: &&str| !line.contains(" TRACE ") && !line.contains(" DEBUG ");
            let lines: Vec<&str> = log.lines().filter(fine).collect();
            eprintln!("--- the end of the daemon's log ---");
            for line in &lines[lines.len().saturating_sub(60)..] {
                eprintln!("{line}");
            }
        }
    }
}

async fn wait_for_end(child: &mut Child) -> ExitStatus {
    let pid = child.id();
    let child = std::cell::RefCell::new(child);
    let look = || async { child.borrow_mut().try_wait().expect("look after the daemon") };
    wait::until(LIMIT, &format!("the daemon (pid {pid}) to end"), look).await
}

fn random_token() -> String {
    let mut bytes = [0u8; 32];
    let mut source = File::open("/dev/urandom").expect("open the system's randomness");
    source.read_exact(&mut bytes).expect("read the system's randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
