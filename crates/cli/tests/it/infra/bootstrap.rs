//! `pgdb infra bootstrap` on a machine with systemd and sshd.

use super::bed::{Ran, command};
use pgdb_testkit::machine::{ADMIN, GUEST, Machine, make_key};
use serde_json::{Value, json};
use std::process::Command;
use tempfile::TempDir;

struct Bed {
    home: TempDir,
    machine: Machine,
}

impl Bed {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a home"), machine: Machine::start(&[]) }
    }

    /// The command with the machine's address and key to log in; the host key has to come from somewhere.
    fn bootstrap(&self, more: &[&str]) -> Command {
        let mut command = command(self.home.path());
        let machine = &self.machine;
        command.args(["infra", "bootstrap", "--host", "127.0.0.1", "--engine", "none", "--ssh-port"]);
        command.arg(machine.ssh_port().to_string()).arg("--pgdb-port").arg(machine.http_port().to_string());
        command.args(more);
        if !more.contains(&"--identity") {
            command.arg("--identity").arg(machine.login_key());
        }
        command
    }

    fn run(&self, more: &[&str]) -> Ran {
        Ran::of(&self.bootstrap(more).output().expect("pgdb runs"))
    }

    /// What the daemon there answers to a command of ours with this token.
    fn ask(&self, token: &str, arguments: &[&str]) -> Ran {
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
    let config = std::fs::read(bed.home.path().join(".config/pgdb/config.json")).expect("a configuration");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["servers"]["default"], done["url"]);

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
        bed.machine.output(&format!("grep -rls '{token}' /etc /tmp /root /run /var/log 2>/dev/null || true")),
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
