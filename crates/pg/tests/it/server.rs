//! A PostgreSQL server that lives as long as a test.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, getuid};
use pgdb_pg::{Client, Target, TlsMode, connect, connect_for_scripts, ready};
use secrecy::SecretString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const ADMIN: &str = "pgdb_admin";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Stopped, and its folder removed, when dropped.
pub(crate) struct Server {
    process: Child,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Server {
    /// Sockets trust us, TCP wants SCRAM. `settings` go to `postgresql.conf`.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_with(settings, |_| {}).await
    }

    /// As [`Server::start`]; `prepare` may put files into the data folder.
    pub(crate) async fn start_with(settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_of(&bin_dir(), settings, prepare).await
    }

    /// As [`Server::start_with`], of the PostgreSQL whose programs are in `bin`.
    pub(crate) async fn start_of(bin: &Path, settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("pgdb-pg-").tempdir().expect("a folder");
        let data = folder.path().join("data");
        give_away(folder.path());
        let made = unprivileged(bin, "initdb")
            .args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={ADMIN}"))
            .arg("--pgdata")
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        fs::write(
            data.join("postgresql.auto.conf"),
            format!(
                "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
                 fsync = off\nshared_buffers = 16MB\n{settings}\n",
                folder.path().display()
            ),
        )
        .expect("settings");
        prepare(&data);
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        // The temporary server ends with the test's thread even when the test is killed.
        let process = unprivileged(bin, "postgres")
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres runs");
        let server = Self { process, folder, port };
        match ready::wait_until_answers(&server.socket(), ADMIN, None, "postgres", PATIENCE).await {
            Ok(client) => client.close().await,
            Err(error) => panic!("{error:?}\n{}", server.log()),
        }
        server
    }

    pub(crate) fn socket(&self) -> Target {
        Target::Socket { dir: self.folder.path().to_owned(), port: self.port }
    }

    pub(crate) fn tcp(&self, tls: TlsMode) -> Target {
        Target::Tcp { host: "127.0.0.1".into(), port: self.port, tls }
    }

    /// A session of the superuser in `db`.
    pub(crate) async fn admin(&self, db: &str) -> Client {
        connect_for_scripts(&self.socket(), ADMIN, None, db, PATIENCE).await.expect("the administrator gets in")
    }

    /// A login over TCP, and who that is.
    pub(crate) async fn login(
        &self,
        role: &str,
        password: &SecretString,
        db: &str,
    ) -> Result<String, pgdb_pg::PgError> {
        let client = connect(&self.tcp(TlsMode::Disable), role, Some(password), db, PATIENCE).await?;
        let who = one(&client, "SELECT current_user || '@' || current_database()").await;
        client.close().await;
        Ok(who)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("the log")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: nothing of it is needed any more.
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.process.wait();
    }
}

/// The first column of the first row, as text.
pub(crate) async fn one(client: &Client, sql: &str) -> String {
    let rows = client.query("look", sql, &[]).await.expect(sql);
    rows.first().expect("a row").get(0)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// PostgreSQL refuses to run as root.
fn owner() -> Option<User> {
    getuid().is_root().then(|| User::from_name("postgres").expect("users can be read").expect("a user postgres"))
}

/// Lets the server's user own a file or folder.
pub(crate) fn give_away(path: &Path) {
    if let Some(user) = owner() {
        chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
}

fn unprivileged(bin: &Path, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if let Some(user) = owner() {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command.arg(bin.join(program)).current_dir("/").env_clear().env("LC_ALL", "C");
    command
}

/// The PostgreSQL whose programs `PGDB_TEST_PG_BIN` names, else the newest that the system has, else one of ours.
fn bin_dir() -> PathBuf {
    if let Some(bin) = std::env::var_os("PGDB_TEST_PG_BIN") {
        return bin.into();
    }
    let newest = |root: PathBuf| {
        let majors = fs::read_dir(root).ok()?.flatten().map(|entry| entry.path().join("bin"));
        majors.filter(|bin| bin.join("initdb").exists()).max()
    };
    newest("/usr/lib/postgresql".into())
        .or_else(|| newest(std::env::var_os("PGDB_ENGINES_DIR")?.into()))
        .expect("PostgreSQL is installed (scripts/install-deps.sh)")
}

/// The programs of PostgreSQL 15, or of the oldest major after it that there is.
pub(crate) fn oldest() -> PathBuf {
    majors().into_iter().next().map(|(_, bin)| bin).unwrap_or_else(bin_dir)
}

/// The programs of the newest major that there is.
pub(crate) fn newest() -> PathBuf {
    majors().pop().map(|(_, bin)| bin).unwrap_or_else(bin_dir)
}

/// Majors from 15 on, sorted; none if one was named for the whole run.
fn majors() -> Vec<(u16, PathBuf)> {
    if std::env::var_os("PGDB_TEST_PG_BIN").is_some() {
        return Vec::new();
    }
    let roots = [Some(PathBuf::from("/usr/lib/postgresql")), std::env::var_os("PGDB_ENGINES_DIR").map(PathBuf::from)];
    let entries = roots.into_iter().flatten().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let found = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))));
    let mut found: Vec<(u16, PathBuf)> =
        found.filter(|(major, bin)| *major >= 15 && bin.join("initdb").exists()).collect();
    found.sort();
    found
}
