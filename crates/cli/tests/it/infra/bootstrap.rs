//! `pgdb infra bootstrap` on a machine with systemd and sshd.

use super::bed::{Ran, command};
use pgdb_testkit::docker::{Engine, Kind};
use pgdb_testkit::machine::{ADMIN, GUEST, Machine, make_key};
use pgdb_testkit::sql;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;
use tempfile::TempDir;

/// A home and a machine.
pub(super) struct Bed {
    home: TempDir,
    pub(super) machine: Machine,
}

impl Bed {
    fn new() -> Self {
        Self::on(Machine::start())
    }

    pub(super) fn on(machine: Machine) -> Self {
        Self { home: tempfile::tempdir().expect("a home"), machine }
    }

    /// The command with the machine's address; the host key has to come from somewhere.
    fn bare(&self) -> Command {
        let mut command = command(self.home.path());
        command.args(["infra", "bootstrap", "--host", "127.0.0.1", "--ssh-port"]);
        command.arg(self.machine.ssh_port().to_string());
        command
    }

    /// The same with a key to log in, and what a test wants of each machine.
    fn bootstrap(&self, more: &[&str]) -> Command {
        let (mut command, machine) = (self.bare(), &self.machine);
        command.arg("--pgdb-port").arg(machine.http_port().to_string());
        command.args(more);
        if !more.contains(&"--engine") {
            command.args(["--engine", "none"]);
        }
        if !more.contains(&"--identity") {
            command.arg("--identity").arg(machine.login_key());
        }
        command
    }

    pub(super) fn run(&self, more: &[&str]) -> Ran {
        Ran::of(&self.bootstrap(more).output().expect("pgdb runs"))
    }

    /// The command as somebody gives it who wants nothing else than before.
    pub(super) fn upgrade(&self, more: &[&str]) -> Ran {
        let mut command = self.bare();
        Ran::of(&command.arg("--identity").arg(self.machine.login_key()).args(more).output().expect("pgdb runs"))
    }

    /// Sets what the command speaks to.
    pub(super) fn set_default(&self, url: &str) {
        let mut command = command(self.home.path());
        assert!(command.args(["config", "set", "server.default", url]).status().expect("pgdb runs").success());
    }

    pub(super) fn default(&self) -> Value {
        let config = std::fs::read(self.home.path().join(".config/pgdb/config.json")).expect("a configuration");
        serde_json::from_slice::<Value>(&config).expect("JSON")["servers"]["default"].clone()
    }

    /// What the daemon there answers to a command of ours with this token.
    pub(super) fn ask(&self, token: &str, arguments: &[&str]) -> Ran {
        let mut command = command(self.home.path());
        Ran::of(&command.env("PGDB_TOKEN", token).args(arguments).output().expect("pgdb runs"))
    }

    fn assert_nothing_sent(&self) {
        assert_eq!(self.machine.output("ls -d /tmp/pgdb-bootstrap.* 2>/dev/null || true"), "");
    }
}

#[test]
fn root_installs_a_daemon_that_deploys_and_a_second_run_keeps_its_token() {
    let bed = Bed::new();
    let key = bed.machine.host_key();
    let done = bed.run(&["--host-key", &key, "--public-host", "127.0.0.1", "--json"]).document("the first run");
    let token = done["token"].as_str().expect("a token").to_owned();
    assert_eq!(done["url"], format!("http://127.0.0.1:{}", bed.machine.http_port()));
    assert_eq!(bed.default(), done["url"]);

    // The unit is what was promised.
    let shown = bed
        .machine
        .output("systemctl show pgdb.service -p Names -p KillMode -p User -p NoNewPrivileges -p ProtectSystem");
    for line in ["KillMode=process", "NoNewPrivileges=yes", "ProtectSystem=strict", "User=pgdb"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("pgdbd.service"), "{shown}");
    assert_eq!(bed.machine.output("systemctl is-enabled pgdb.service"), "enabled\n");
    assert_eq!(bed.machine.output("stat -c '%a %U' /etc/pgdb/pgdb.env"), "600 root\n");
    assert!(bed.machine.output("cat /etc/pgdb/pgdb.env").contains(&token));
    // The token is in that file alone.
    assert!(!bed.machine.output("journalctl --no-pager").contains(&token));
    assert_eq!(
        bed.machine.output(&format!("grep -rls '{token}' /etc /tmp /run /var/log 2>/dev/null || true")),
        "/etc/pgdb/pgdb.env\n"
    );
    bed.assert_nothing_sent();

    let made = bed.ask(&token, &["deploy", "--name", "mydb", "--json"]).document("deploy");
    assert_eq!((&made["name"], &made["host"]), (&json!("mydb"), &json!("127.0.0.1")));
    let before = bed.machine.output("head -n 1 /var/lib/pgdb/instances/*/data/postmaster.pid");

    // Again, without the host key, which is known by now: the daemon is a new one, its database the old one.
    let again = bed.run(&["--json"]).document("the second run");
    assert_eq!(again["token"], token.as_str());
    assert_eq!(bed.ask(&token, &["status", "--json"]).document("status")["items"][0]["state"], "running");
    assert_eq!(bed.machine.output("head -n 1 /var/lib/pgdb/instances/*/data/postmaster.pid"), before);
    bed.assert_nothing_sent();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_containers_of_the_servers_engine() {
    let engine = Engine::take(Kind::Docker).await;
    let bed = Bed::on(Machine::with_engine(&engine.socket()));
    // As an engine of that machine would have it.
    bed.machine.output("chgrp docker /run/docker.sock");
    let key = bed.machine.host_key();
    let done = bed.run(&["--engine", "docker", "--host-key", &key, "--public-host", "127.0.0.1", "--json"]);
    let token = done.document("bootstrap")["token"].as_str().expect("a token").to_owned();
    let shown = bed.machine.output("systemctl show pgdb.service -p SupplementaryGroups -p User");
    assert!(shown.contains("SupplementaryGroups=docker") && shown.contains("User=pgdb"), "{shown}");

    let made = bed.ask(&token, &["deploy", "--name", "mydb", "--json"]).document("deploy");
    let url = made["DATABASE_URL"].as_str().expect("a URL");
    assert_eq!(sql::run(url, "SELECT 1").await, "1");
    let seen = engine.ask(Method::GET, "/containers/pgdb-mydb/json", Value::Null).await;
    assert_eq!(seen["State"]["Running"], true);
    assert_eq!(bed.ask(&token, &["destroy", "mydb"]).status, Some(0));
    let left = engine.ask(Method::GET, "/containers/json?all=true", Value::Null).await;
    assert_eq!(left, json!([]));
}

#[test]
fn a_user_with_sudo_installs_too_and_one_without_is_told() {
    let bed = Bed::new();
    let key = bed.machine.host_key();
    let ran = bed.run(&["--host-key", &key, "--user", GUEST]);
    assert!(ran.status == Some(1) && ran.stderr.contains("may not use sudo without a password"), "{ran:?}");
    let token = "0123456789abcdefghijABCDEFGHIJ-secret";
    let file = bed.home.path().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("written");
    let ran = bed.run(&["--user", ADMIN, "--token-file", file.to_str().expect("text")]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(&format!("export PGDB_TOKEN={token}\n")) && !ran.stderr.contains(token), "{ran:?}");
    assert_eq!(bed.ask(token, &["list", "--json"]).status, Some(0));
    assert_eq!(bed.machine.output("stat -c '%a %U' /etc/pgdb/pgdb.env"), "600 root\n");
    bed.assert_nothing_sent();
}

#[test]
fn a_host_key_is_never_taken_on_trust() {
    let bed = Bed::new();
    let ran = bed.run(&[]);
    assert!(
        ran.status == Some(1) && ran.stderr.contains("none is known") && ran.stderr.contains("--host-key"),
        "{ran:?}"
    );
    let other = bed.home.path().join("other");
    make_key(&other);
    let wrong = std::fs::read_to_string(other.with_extension("pub")).expect("a key");
    let ran = bed.run(&["--host-key", &wrong]);
    assert!(ran.status == Some(1) && ran.stderr.contains("the host key is not the known one"), "{ran:?}");
    let key = bed.machine.host_key();
    let ran = bed.run(&["--host-key", &key, "--identity", other.to_str().expect("a path")]);
    assert!(ran.status == Some(1) && ran.stderr.contains("does not accept this key"), "{ran:?}");
    assert!(!bed.home.path().join(".config/pgdb/config.json").exists());
    bed.assert_nothing_sent();
}

#[test]
fn what_the_installer_says_is_told_and_the_same_command_goes_on() {
    let bed = Bed::new();
    bed.machine.output("mkdir -p /var/lib/pgdb && touch /var/lib/pgdb/state.db");
    let ran = bed.run(&["--host-key", &bed.machine.host_key()]);
    assert!(ran.status == Some(1) && ran.stderr.contains("could not install pgdb on root@127.0.0.1"), "{ran:?}");
    assert!(ran.stderr.contains("/var/lib/pgdb belongs to root"), "{ran:?}");
    assert!(!bed.home.path().join(".config/pgdb/config.json").exists());
    bed.assert_nothing_sent();
    bed.machine.output("rm /var/lib/pgdb/state.db");
    assert_eq!(bed.run(&[]).status, Some(0));
}

#[test]
fn databases_are_on_the_volume_and_come_along_to_a_new_server() {
    let bed = Bed::on(Machine::with_volume());
    let arguments = ["--public-host", "127.0.0.1", "--json", "--host-key"];
    let done = bed.run(&[&arguments[..], &[&bed.machine.host_key()]].concat()).document("the first server");
    let token = done["token"].as_str().expect("a token");
    assert_eq!(
        bed.machine.output("findmnt -n -o TARGET /mnt/pgdb && mountpoint -q /var/lib/pgdb && echo bound"),
        "/mnt/pgdb\nbound\n"
    );
    assert!(bed.machine.output("systemctl show pgdb.service -p RequiresMountsFor").contains("/var/lib/pgdb"));
    bed.ask(token, &["deploy", "--name", "mydb", "--json"]).document("deploy");
    let fstab = bed.machine.output("cat /etc/fstab");
    assert_eq!(bed.run(&["--json"]).document("again")["token"], token);
    assert_eq!(bed.machine.output("cat /etc/fstab"), fstab, "nothing is written twice");

    // Another number for the user, as another system may give it.
    let bed = Bed::on(bed.machine.rebuild());
    bed.machine.output("useradd --system --uid 4999 --user-group --home-dir /var/lib/pgdb --no-create-home pgdb");
    let done = bed.run(&[&arguments[..], &[&bed.machine.host_key()]].concat()).document("the second server");
    let new_token = done["token"].as_str().expect("a token");
    assert_ne!(new_token, token, "the old one was on the old server's own disk");
    assert_eq!(bed.machine.output("stat -c %U /var/lib/pgdb/state.db"), "pgdb\n");
    let there = bed.ask(new_token, &["start", "mydb", "--json"]);
    assert_eq!(there.status, Some(0), "{there:?}");
    assert_eq!(bed.ask(new_token, &["status", "--json"]).document("status")["items"][0]["state"], "running");
}

/// A crate that is called as ours is, and hands over to the program that a first bootstrap brought.
const CHECKOUT: &str = r#"
set -eu
mkdir -p /srv/pgdb/src && cd /srv/pgdb && git init -q
printf '[package]\nname = "pgdb"\nversion = "0.0.1"\nedition = "2021"\n' >Cargo.toml
printf 'version = 3\n[[package]]\nname = "pgdb"\nversion = "0.0.1"\n' >Cargo.lock
cat >src/main.rs <<'RUST'
use std::os::unix::process::CommandExt;
fn main() { panic!("{}", std::process::Command::new("/opt/real-pgdb").args(std::env::args_os().skip(1)).exec()) }
RUST
git add . && git -c user.name=t -c user.email=t@localhost commit -q -m one
cp /usr/local/bin/pgdb /opt/real-pgdb
"#;

#[test]
fn a_checkout_is_cloned_built_and_brought_up_to_date() {
    let bed = Bed::new();
    let key = bed.machine.host_key();
    let token = bed.run(&["--host-key", &key, "--json"]).document("the running program")["token"].clone();
    let real = bed.machine.output("sha256sum </usr/local/bin/pgdb");
    bed.machine.output(CHECKOUT);
    let build = ["--repo-url", "file:///srv/pgdb", "--path", "/opt/it's here", "--json"];
    assert_eq!(bed.run(&build).document("a clone")["token"], token);
    let first = bed.machine.output("sha256sum </usr/local/bin/pgdb");
    assert_ne!(first, real, "what was built is what is installed");
    assert_eq!(bed.machine.output("sha256sum <\"/opt/it's here/target/release/pgdb\""), first);

    bed.machine.output("cd /srv/pgdb && echo '// changed' >>src/main.rs && git -c user.name=t -c user.email=t@localhost commit -qam two");
    bed.run(&build).document("the clone again");
    assert!(bed.machine.output("cat \"/opt/it's here/src/main.rs\"").contains("// changed"));
    // The same folder as it is, without asking the repository.
    bed.machine.output("rm -rf /srv/pgdb");
    bed.run(&["--path", "/opt/it's here", "--json"]).document("the folder alone");
    let ran = bed.run(&["--path", "/srv/nothing"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("/srv/nothing is no checkout of pgdb"), "{ran:?}");
}
