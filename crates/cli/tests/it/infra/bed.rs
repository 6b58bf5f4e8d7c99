//! A home, a project at the provider, and the command in between.

use pgdb_testkit::hetzner::{Hetzner, TOKEN};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
/// What each `init` of a test asks for.
pub(super) const INIT: [&str; 9] =
    ["infra", "init", "--name", "pgdb-prod", "--ssh-key-id", "1234567", "--allow-cidr", "203.0.113.0/24", "--json"];

pub(super) struct Bed {
    pub(super) home: TempDir,
    pub(super) cloud: Hetzner,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a home"), cloud: Hetzner::start() }
    }

    /// The command with nothing of this process's settings, and little patience.
    pub(super) fn pgdb(&self, arguments: &[&str]) -> Command {
        self.waiting(arguments, "300ms")
    }

    /// The same, waiting this long for an answer.
    pub(super) fn waiting(&self, arguments: &[&str], limit: &str) -> Command {
        let mut command = command(self.home.path());
        command.env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", self.cloud.endpoint()).args(arguments);
        command.args([
            "--request-timeout",
            limit,
            "--attempts",
            "4",
            "--action-timeout",
            "5s",
            "--poll-interval",
            "1ms",
        ]);
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.pgdb(arguments).output().expect("pgdb runs"))
    }

    /// What this machine remembers of the servers.
    pub(super) fn remembered(&self) -> PathBuf {
        self.home.path().join(".config/pgdb/infra")
    }

    pub(super) fn journal(&self) -> Option<Value> {
        let text = std::fs::read(self.remembered().join("pgdb-prod/journal.json")).ok()?;
        Some(serde_json::from_slice(&text).expect("JSON"))
    }

    /// How many servers, volumes and firewalls there are.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        self.cloud.settle();
        (self.cloud.all("servers").len(), self.cloud.all("volumes").len(), self.cloud.all("firewalls").len())
    }

    /// Panics unless there is exactly what `INIT` asks for, whole, and this machine knows it.
    pub(super) fn assert_made(&self, case: &str) {
        assert_eq!(self.counts(), (1, 1, 1), "{case}");
        let (server, volume) = (&self.cloud.all("servers")[0], &self.cloud.all("volumes")[0]);
        let firewall = &self.cloud.all("firewalls")[0];
        assert_eq!(server["status"], "running", "{case}");
        assert_eq!(volume["server"], server["id"], "{case}");
        assert_eq!(firewall["applied_to"].as_array().map(Vec::len), Some(1), "{case}");
        assert_eq!(firewall["applied_to"][0]["server"]["id"], server["id"], "{case}");
        for thing in [server, volume, firewall] {
            assert_eq!(thing["labels"]["managed-by"], "pgdb", "{case}");
            assert_eq!(thing["labels"]["pgdb-name"], "pgdb-prod", "{case}");
        }
        let ip = server["public_net"]["ipv4"]["ip"].as_str().expect("an address");
        let config: Value = serde_json::from_slice(
            &std::fs::read(self.home.path().join(".config/pgdb/config.json")).expect("a configuration"),
        )
        .expect("JSON");
        assert_eq!(config["servers"]["default"], format!("http://{ip}:8080"), "{case}");
        assert_eq!(self.journal().expect("a journal")["state"], "ready", "{case}");
        // The key that the server was given is the one that is pinned.
        let user_data = self.cloud.user_data();
        let public = user_data.split("ed25519_public: ").nth(1).and_then(|rest| rest.lines().next()).expect("a key");
        let hosts = std::fs::read_to_string(self.remembered().join("known_hosts")).expect("known hosts");
        assert_eq!(hosts, format!("{ip} {public}\n"), "{case}");
    }
}

/// The command with a home of its own and nothing of this process's settings.
pub(super) fn command(home: &std::path::Path) -> Command {
    let mut command = Command::new(BINARY);
    let ours = |name: &std::ffi::OsStr| {
        ["PGDB_", "HCLOUD_", "HETZNER_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("XDG_CONFIG_HOME").env("HOME", home).stdin(Stdio::null());
    command
}

/// How the command ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    pub(super) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The JSON document of a command that went well.
    pub(super) fn document(&self, case: &str) -> Value {
        assert_eq!(self.status, Some(0), "{case}: {self:?}");
        serde_json::from_str(&self.stdout).expect("JSON")
    }
}
