//! A PostgreSQL server, folders for migrations, and a watcher between them.
//!
//! The server is an instance of a daemon, because that knows how to run, stop and start one; the watcher knows it by
//! `DATABASE_URL` alone.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::api::{Api, Body};
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(super) const LIMIT: Duration = Duration::from_secs(30);
const SERVER: &str = "server";
/// The database, which nobody has made.
const DATABASE: &str = "pact_mock_servers";

pub(super) struct Bed {
    pub(super) daemon: Daemon,
    /// The server's URL without the database.
    base: String,
    health: Api,
    health_port: u16,
    env: Vec<(&'static str, String)>,
    /// What the watcher is started by, with its arguments; nothing is usual.
    under: Vec<String>,
    watcher: Option<Child>,
}

impl Bed {
    /// On the newest PostgreSQL.
    pub(super) async fn start() -> Self {
        Self::start_on(None).await
    }

    pub(super) async fn start_on(major: Option<u16>) -> Self {
        let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_pgdb"));
        // The block's other ports are the test's own.
        daemon.narrow_ports(4);
        let health_port = daemon.first_port() + 10;
        daemon.up(&[]).await;
        let server = daemon.deploy(json!({ "name": SERVER, "superuser": true, "version": major })).await;
        let url = server["database_url"].as_str().expect("a URL");
        let base = url.rsplit_once('/').expect("a database").0.to_owned();
        let health = Api::new(health_port, "none");
        let mut bed = Self { daemon, base, health, health_port, env: Vec::new(), under: Vec::new(), watcher: None };
        fs::create_dir(bed.folder()).expect("a folder");
        bed.set("DATABASE_URL", &bed.url());
        bed.set("CONFIGMAP_PATH", &bed.mount_path().display().to_string());
        bed.set("MIGRATIONS_DIR", &bed.tree_path().display().to_string());
        bed
    }

    fn folder(&self) -> PathBuf {
        self.daemon.folder().join("watched")
    }

    pub(super) fn mount_path(&self) -> PathBuf {
        self.folder().join("mount")
    }

    pub(super) fn tree_path(&self) -> PathBuf {
        self.folder().join("tree")
    }

    pub(super) fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        format!("{}/{database}?sslmode=disable", self.base)
    }

    /// Sets a variable of the watcher's environment.
    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value.to_owned()));
    }

    /// Lets a program start the watcher, which has to become it.
    pub(super) fn run_under(&mut self, words: &[&str]) {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// `pgdb migrate watch` with nothing of this process's environment.
    pub(super) fn command(&self) -> Command {
        let mut words = self.under.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_pgdb"), "migrate", "watch"]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).env_clear().current_dir(self.folder()).stdin(Stdio::null());
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HEALTH_PORT", self.health_port.to_string()).env("PGDB_LOG", "trace,mio=info");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the watcher.
    pub(super) fn watch(&mut self) {
        assert!(self.watcher.is_none(), "the watcher runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.watcher = Some(command.spawn().expect("pgdb runs"));
    }

    /// SIGTERM, and waits until the watcher has ended.
    pub(super) async fn stop_watching(&mut self) -> ExitStatus {
        let child = self.watcher.as_ref().expect("the watcher runs");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("told to end");
        let child = std::cell::RefCell::new(self.watcher.take().expect("the watcher runs"));
        let look = || async { child.borrow_mut().try_wait().expect("looked") };
        wait::until(LIMIT, "the watcher to end", look).await
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("watch.log")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// An answer of the health port; nothing when nobody answers.
    pub(super) async fn probe(&self, path: &str) -> Option<(u16, Value)> {
        let answer = self.health.try_send(Method::GET, path, Body::None).await.ok()?;
        Some((answer.status, answer.json))
    }

    /// The health port's answer as text.
    pub(super) async fn text(&self, path: &str) -> String {
        let answer = self.health.try_send(Method::GET, path, Body::None).await.expect("an answer");
        String::from_utf8(answer.bytes).expect("text")
    }

    /// Waits until everything is applied.
    pub(super) async fn ready(&self) -> Value {
        let look = || async { self.probe("/readiness").await.filter(|(status, _)| *status == 200) };
        wait::until(LIMIT, "readiness", look).await.1
    }

    /// Waits until it is not ready for a reason with this in it.
    pub(super) async fn not_ready(&self, reason: &str) -> Value {
        let look = || async {
            let (status, body) = self.probe("/readiness").await?;
            (status == 503 && body["reason"].as_str()?.contains(reason)).then_some(body)
        };
        wait::until(LIMIT, &format!("the reason '{reason}'"), look).await
    }

    /// Waits until a query in the database gives this.
    pub(super) async fn until_sql(&self, query: &str, expected: &str) {
        let url = self.url();
        let look = || async {
            let answer = sql::login(&url).await.ok()?.run(query).await.ok()??;
            (answer == expected).then_some(())
        };
        wait::until(LIMIT, &format!("{query} to give {expected}"), look).await;
    }

    /// The first column of the last row in the database.
    pub(super) async fn sql(&self, statements: &str) -> String {
        sql::run(&self.url(), statements).await
    }

    /// The same in the database `postgres`.
    pub(super) async fn admin(&self, statements: &str) -> String {
        sql::run(&self.url_of("postgres"), statements).await
    }

    /// Stops or starts the server.
    pub(super) async fn power(&self, what: &str) {
        self.daemon.poke(&format!("/v1/db/{SERVER}/{what}")).await.expect(200);
    }

    /// Writes a file of the tree as an editor does.
    pub(super) fn write_tree(&self, name: &str, text: &str) {
        write(&self.tree_path().join(name), text);
    }

    /// Writes a file of the mount in its place, as a plain folder is changed.
    pub(super) fn write_mount(&self, name: &str, text: &str) {
        write(&self.mount_path().join(name), text);
    }

    /// Updates the mount as Kubernetes updates a volume: a new folder takes the place of `..data`, in one step.
    pub(super) fn update_mount(&self, generation: u32, entries: &[(String, String)]) {
        let mount = self.mount_path();
        let folder = format!("..2026_11_21_{generation:04}");
        for (key, text) in entries {
            write(&mount.join(&folder).join(key), text);
        }
        let before = fs::read_link(mount.join("..data")).ok();
        symlink(&folder, mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
        for (key, _) in entries {
            let link = mount.join(key);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(key), link).expect("a link");
            }
        }
        if let Some(before) = before {
            fs::remove_dir_all(mount.join(before)).expect("the old content removed");
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.watcher {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let fine = |line: &&str| !line.contains(" TRACE ") && !line.contains(" DEBUG ");
            let lines: Vec<&str> = log.lines().filter(fine).collect();
            eprintln!("--- the end of the watcher's log ---\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("written");
}
