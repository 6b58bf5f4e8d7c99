//! The scripts that people run on their servers.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::wait::until;
use pgdb_testkit::world::assert_nothing_left;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SETTINGS: &str = "etc/pgdb/pgdb.env";
const UNIT: &str = "etc/systemd/system/pgdb.service";
const EXTRA: &str = "etc/systemd/system/pgdb.service.d/install.conf";

fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name));
    let path = std::env::var_os("PATH").expect("there is a PATH");
    command.env_clear().env("PATH", path);
    command
}

fn fine(command: &mut Command) -> String {
    let output = command.output().expect("the script runs");
    assert!(output.status.success(), "{output:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("the script runs");
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).expect("text")
}

#[tokio::test]
async fn the_integration_test_passes_and_leaves_nothing() {
    let daemon = Daemon::start(BINARY).await;
    let url = format!("http://127.0.0.1:{}", daemon.http_port());
    let mut command = script("integration_test.sh");
    let said = fine(command.env("PGDB_SERVER_URL", &url).env("PGDB_TOKEN", daemon.token()));
    assert!(said.ends_with("ok\n"), "{said}");
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn the_integration_test_says_what_is_wrong() {
    let daemon = Daemon::start(BINARY).await;
    let url = format!("http://127.0.0.1:{}", daemon.http_port());
    let said = refused(script("integration_test.sh").env("PGDB_SERVER_URL", &url).env("PGDB_TOKEN", TOKEN));
    assert!(said.contains("the deploy was answered with 401 instead of 200"), "{said}");
    let said = refused(script("integration_test.sh").env("PGDB_TOKEN", TOKEN));
    assert!(said.contains("PGDB_SERVER_URL is not set"), "{said}");
    assert_nothing_left(&daemon, &[]).await;
}

/// A file system of its own to install into.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn install(&self) -> Command {
        let mut command = script("install.sh");
        command.args(["--binary", BINARY, "--root"]).arg(self.0.path());
        command
    }

    fn uninstall(&self) -> Command {
        let mut command = script("install.sh");
        command.arg("--uninstall").arg("--root").arg(self.0.path());
        command
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.0.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("list a folder").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    files.push(entry.strip_prefix(self.0.path()).expect("it is in there").to_owned());
                }
            }
        }
        files.sort();
        files
    }
}

#[test]
fn install_puts_the_service_in_place_and_changes_only_what_differs() {
    let root = Root::new();
    let said = fine(root.install().env("PGDB_TOKEN", TOKEN).env("PGDB_LISTEN", ":8080"));
    assert!(!said.contains(TOKEN), "{said}");
    assert_eq!(root.files(), [SETTINGS, UNIT, "usr/local/bin/pgdb"].map(PathBuf::from));
    let mode = |path: &str| fs::metadata(root.0.path().join(path)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!([mode(SETTINGS), mode(UNIT), mode("usr/local/bin/pgdb")], [0o600, 0o644, 0o755]);
    let mut lines: Vec<String> = root.read(SETTINGS).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["PGDB_LISTEN=':8080'".to_owned(), format!("PGDB_TOKEN='{TOKEN}'")]);
    // What the contract asks of the unit.
    let unit = root.read(UNIT);
    for line in
        ["KillMode=process", "Alias=pgdbd.service", "ExecStart=/usr/local/bin/pgdb serve", "NoNewPrivileges=yes"]
    {
        assert!(unit.lines().any(|found| found == line), "{line} is not in the unit");
    }

    assert!(fine(&mut root.install()).contains("everything was as it should be"));
    assert_eq!(fine(root.install().env("PGDB_LISTEN", ":9090")).lines().count(), 1);
    assert!(root.read(SETTINGS).contains("PGDB_LISTEN=':9090'") && root.read(SETTINGS).contains(TOKEN));

    fine(root.install().arg("--docker").env("PGDB_DATA_DIR", "/srv/pgdb"));
    assert!(root.read(SETTINGS).contains("PGDB_RUNTIME='docker'"));
    let extra = root.read(EXTRA);
    assert!(extra.contains("SupplementaryGroups=docker") && extra.contains("ReadWritePaths=/srv/pgdb"), "{extra}");
}

#[test]
fn install_makes_a_token_of_full_strength_and_does_not_show_it() {
    let root = Root::new();
    let said = fine(&mut root.install());
    let settings = root.read(SETTINGS);
    let token = settings.trim().strip_prefix("PGDB_TOKEN='").and_then(|rest| rest.strip_suffix('\''));
    let token = token.expect("a token");
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    assert!(!said.contains(token), "{said}");
    fine(&mut root.install());
    assert_eq!(root.read(SETTINGS), settings);
}

#[test]
fn install_says_what_it_would_do_and_does_nothing() {
    let root = Root::new();
    let said = fine(root.install().arg("--dry-run").env("PGDB_TOKEN", TOKEN));
    assert!(said.contains("would write") && !said.contains(TOKEN), "{said}");
    assert_eq!(root.files(), [] as [PathBuf; 0]);
}

#[test]
fn install_does_not_lock_out_the_clients_of_the_daemon_before_it() {
    let root = Root::new();
    let old = root.0.path().join("etc/systemd/system/pgdbd.service");
    fs::create_dir_all(old.parent().expect("a folder")).expect("make the folder");
    fs::write(&old, "[Service]\nExecStart=/usr/local/bin/pgdbd\n").expect("write a unit");
    assert!(refused(&mut root.install()).contains("set PGDB_TOKEN to that daemon's token"));
    assert!(!root.0.path().join(SETTINGS).exists());
    fine(root.install().env("PGDB_TOKEN", TOKEN));
}

#[test]
fn uninstall_keeps_data_and_settings_until_told_otherwise() {
    let root = Root::new();
    fine(root.install().env("PGDB_TOKEN", TOKEN));
    let data = root.0.path().join("var/lib/pgdb/state.db");
    fs::write(&data, "state").expect("write a file");
    let before = root.files();
    assert!(fine(root.uninstall().arg("--dry-run")).contains("would run"));
    assert_eq!(root.files(), before);
    fine(&mut root.uninstall());
    assert_eq!(root.files(), [SETTINGS, "var/lib/pgdb/state.db"].map(PathBuf::from));
    fine(&mut root.uninstall());
    fine(root.uninstall().arg("--purge"));
    assert_eq!(root.files(), [] as [PathBuf; 0]);
}

#[test]
fn lines_that_are_no_settings_stay_as_they_are_and_are_not_run() {
    let root = Root::new();
    fine(root.install().env("PGDB_TOKEN", TOKEN));
    let trap = root.0.path().join("trap");
    let text = format!(
        "# why\n\n# $(touch {0})=1\nx[$(touch {0})]=1\nPGDB_TOKEN='{TOKEN}'\nPGDB_LOG='a'\nPGDB_LOG='b'\n",
        trap.display()
    );
    fs::write(root.0.path().join(SETTINGS), &text).expect("write the settings");
    assert!(fine(&mut root.install()).contains("everything was as it should be"));
    assert_eq!(root.read(SETTINGS), text);
    // What is given replaces every line of that name, or the last would win.
    fine(root.install().env("PGDB_LOG", "c"));
    assert_eq!(root.read(SETTINGS), text.replace("PGDB_LOG='a'\nPGDB_LOG='b'", "PGDB_LOG='c'"));
    assert!(!trap.exists());
}

#[test]
fn the_unit_is_fitted_to_ports_and_folders_and_refuses_what_it_could_not_see() {
    let root = Root::new();
    for wrong in
        ["data", "/home/me/pgdb", "/root/pgdb", "/tmp/pgdb", "/var/tmp", "/run/user/1/pgdb", "/srv/a b", "/srv/%i"]
    {
        let said = refused(root.install().env("PGDB_DATA_DIR", wrong));
        assert!(said.contains("PGDB_DATA_DIR") && said.contains(wrong), "{said}");
        assert_eq!(root.files(), [] as [PathBuf; 0]);
    }
    fine(root.install().env("PGDB_DATA_DIR", "/srv/pgdb").env("PGDB_LISTEN", ":443"));
    let extra = root.read(EXTRA);
    for line in [
        "RequiresMountsFor=/srv/pgdb",
        "ReadWritePaths=/srv/pgdb",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    ] {
        assert!(extra.lines().any(|found| found == line), "{line}: {extra}");
    }
    fine(root.install().env("PGDB_LISTEN", ":8443"));
    assert!(!root.read(EXTRA).contains("CAP_"), "{}", root.read(EXTRA));
}

#[test]
fn where_docker_is_goes_along_with_docker_alone() {
    let root = Root::new();
    fine(root.install().env("DOCKER_HOST", "unix:///run/other.sock"));
    assert!(!root.read(SETTINGS).contains("DOCKER_HOST"));
    fine(root.install().arg("--docker").env("DOCKER_HOST", "unix:///run/other.sock"));
    assert!(root.read(SETTINGS).contains("DOCKER_HOST='unix:///run/other.sock'"));
}

#[test]
fn the_settings_of_the_daemon_before_it_are_taken_over() {
    let root = Root::new();
    let write = |path: &str, text: &str| {
        let path = root.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        fs::write(path, text).expect("write a file");
    };
    let unit = "[Service]\nEnvironment=\"PGDB_LISTEN=:8080\" PGDB_PUBLIC_HOST=old.example.org PATH=/bin\n\
                Environment=PGDB_DATA_DIR=/srv/pgdb\nEnvironmentFile=-/etc/pgdbd.env\nEnvironmentFile=-/etc/absent\n";
    write("etc/systemd/system/pgdbd.service", unit);
    write("etc/pgdbd.env", &format!("PGDB_TOKEN=\"{TOKEN}\"\n"));
    fine(root.install().env("PGDB_PUBLIC_HOST", "new.example.org"));
    let mut lines: Vec<String> = root.read(SETTINGS).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "PGDB_DATA_DIR='/srv/pgdb'".to_owned(),
            "PGDB_LISTEN=':8080'".to_owned(),
            "PGDB_PUBLIC_HOST='new.example.org'".to_owned(),
            "PGDB_RUNTIME='docker'".to_owned(),
            format!("PGDB_TOKEN='{TOKEN}'"),
        ]
    );

    let root = Root::new();
    let registry = root.0.path().join("var/lib/pgdb/registry.json");
    fs::create_dir_all(registry.parent().expect("a folder")).expect("make the folder");
    fs::write(registry, "{\"items\":[]}").expect("write a registry");
    fine(&mut root.install());
    assert!(root.read(SETTINGS).contains("PGDB_RUNTIME='docker'"));
}

#[test]
fn a_file_with_the_token_gets_neither_into_the_image_nor_into_git() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |name: &str| fs::read_to_string(top.join(name)).expect("it is there");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".gitignore"), read(".gitignore")).expect("write a file");
    let git = |arguments: &[&str]| {
        let status =
            Command::new("git").arg("-C").arg(folder.path()).args(arguments).output().expect("git runs").status;
        status.success()
    };
    assert!(git(&["init"]));
    for (name, ignored) in [(".env", true), ("deploy/.env.prod", true), ("deploy/previews/.env.example", false)] {
        assert_eq!(git(&["check-ignore", "--quiet", name]), ignored, "{name}");
    }
    assert!(read(".dockerignore").lines().any(|line| line == "**/.env*"));
}

#[tokio::test]
async fn a_daemon_with_a_certificate_of_ones_own_is_asked_where_it_listens() {
    let mut daemon = Daemon::prepare(BINARY);
    let (cert, key) = (daemon.folder().join("api.pem"), daemon.folder().join("api.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=db.example.org", "-days", "1"])
        .args(["-addext", "subjectAltName=DNS:db.example.org", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let (cert, key) = (cert.to_str().expect("text"), key.to_str().expect("text"));
    daemon.spawn(&[("PGDB_TLS_CERT", cert), ("PGDB_TLS_KEY", key)]);
    let listen = format!("127.0.0.1:{}", daemon.http_port());
    let ask = |what: &str| {
        let mut command = daemon.command();
        command.env("PGDB_LISTEN", &listen).env("PGDB_TLS_CERT", cert).arg(what);
        command.output().expect("pgdb runs")
    };
    let ready = || async { ask("health").status.success().then_some(()) };
    until(Duration::from_secs(30), "the daemon to be healthy", ready).await;
    // One that is named has to show a certificate that is known.
    let mut named = daemon.command();
    let named = named.args(["--server", &format!("https://{listen}"), "health"]).output().expect("pgdb runs");
    assert_eq!(named.status.code(), Some(1), "{named:?}");
    let down = ask("down");
    assert!(down.status.success(), "{down:?}");
    assert!(daemon.ended().await.success());
}
