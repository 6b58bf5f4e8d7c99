//! `pgdb migrate` where files are left out, the environment says two things, or a signal comes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::{sql, wait};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

struct Bed {
    _daemon: Daemon,
    url: String,
    folder: TempDir,
}

impl Bed {
    async fn start() -> Self {
        let daemon = Daemon::start(BINARY).await;
        let instance = daemon.deploy(json!({ "name": "target", "superuser": true })).await;
        let url = instance["database_url"].as_str().expect("a URL").to_owned();
        Self { _daemon: daemon, url, folder: tempfile::tempdir().expect("a folder") }
    }

    fn write(&self, key: &str, text: &str) {
        let path = self.folder.path().join("migrations").join(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, key: &str) {
        fs::remove_file(self.folder.path().join("migrations").join(key)).expect("removed");
    }

    fn command(&self, env: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOME", self.folder.path()).envs(env.iter().copied());
        for name in ["PATH", "PGDB_ENGINES_DIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.current_dir(self.folder.path()).arg("migrate").args(args).stdin(Stdio::null());
        command
    }

    /// The exit status, and all that was said.
    fn run(&self, env: &[(&str, &str)], args: &[&str]) -> (i32, String) {
        let output = self.command(env, args).output().expect("pgdb runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("an exit status"), String::from_utf8(said).expect("text"))
    }

    /// With the database in the environment.
    fn ends(&self, code: i32, args: &[&str]) -> String {
        let (status, said) = self.run(&[("DATABASE_URL", &self.url)], args);
        assert_eq!(status, code, "{args:?}\n{said}");
        said
    }

    async fn ask(&self, sql: &str) -> String {
        sql::run(&self.url, sql).await
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_never_passed_over() {
    let bed = Bed::start().await;
    bed.write("shop/001_a.sql", "CREATE TABLE a ();");
    let left_out = [
        ("_002_x.sql", "/002_x.sql"),
        ("shop_001_a.sql", "two files for 'shop/001_a.sql'"),
        ("b\u{7}_1.sql", "b"),
        ("shop/more/001_b.sql", "shop/more/001_b.sql is not used as a migration: it lies deeper"),
    ];
    for (name, told) in left_out {
        bed.write(name, "CREATE TABLE b ();");
        let said = bed.ends(1, &["run"]);
        assert!(said.contains("nothing was run: 1 file cannot be used") && said.contains(told), "{said}");
        assert!(!said.contains("All migrations applied"), "{said}");
        assert_eq!(bed.ask("SELECT coalesce(to_regclass('a')::text, 'none')").await, "none");
        bed.ends(3, &["status", "--exit-code"]);
        bed.ends(3, &["plan", "--exit-code"]);
        assert!(bed.ends(1, &["validate"]).contains("error: migrations: "), "{name:?}");
        bed.ends(1, &["lint"]);
        // Whoever acts on all files must not take it for one that is gone.
        assert!(bed.ends(1, &["repair", "--yes"]).contains("nothing was done"), "{name:?}");
        bed.ends(1, &["baseline", "--yes"]);
        bed.remove(name);
    }
    bed.write("_002_x.sql", "CREATE TABLE b ();");
    let said = bed.ends(1, &["run", "--keep-going"]);
    assert!(said.contains("1 applied, 1 refused"), "{said}");
    bed.ends(3, &["status", "--exit-code"]);
    let (_, said) = bed.run(&[("DATABASE_URL", &bed.url)], &["status", "--json"]);
    let told: Value =
        serde_json::from_str(said.lines().filter(|line| !line.starts_with("warning")).collect::<String>().as_str())
            .unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((&told["up_to_date"], told["left_out"].as_array().map(Vec::len)), (&json!(false), Some(1)));
    bed.remove("_002_x.sql");
    bed.ends(0, &["status", "--exit-code"]);
    bed.ends(0, &["validate"]);
}

#[tokio::test]
async fn what_is_typed_goes_before_the_environment() {
    let bed = Bed::start().await;
    bed.write("shop/001_a.sql", "CREATE TABLE a ();");
    let (wrong, right) = (bed.folder.path().join("wrong"), bed.folder.path().join("right"));
    fs::write(&wrong, "postgres://nobody:hunter2@127.0.0.1:1/nowhere\n").expect("written");
    fs::write(&right, format!("{}\n", bed.url)).expect("written");
    let text = |path: &Path| path.display().to_string();
    let (status, said) = bed.run(&[("DATABASE_URL_FILE", &text(&wrong))], &["run", "--database-url", &bed.url]);
    assert_eq!(status, 0, "{said}");
    let wrong_url = "postgres://nobody@127.0.0.1:1/nowhere";
    let (status, said) = bed.run(&[("DATABASE_URL", wrong_url)], &["status", "--database-url-file", &text(&right)]);
    assert_eq!(status, 0, "{said}");
    let both = [("DATABASE_URL", bed.url.as_str()), ("DATABASE_URL_FILE", &text(&wrong))];
    for command in ["status", "watch"] {
        let (status, said) = bed.run(&both, &[command]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("DATABASE_URL and the file of DATABASE_URL_FILE"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!(
        bed.run(&[("DATABASE_URL", &bed.url), ("DATABASE_URL_FILE", &text(&right))], &["status"]).0,
        0,
        "the same"
    );
    // Not a wrong use: it asks the daemon, which is not told where it is.
    let (status, said) = bed.run(&[("DATABASE_URL_FILE", &text(&wrong))], &["status", "--on", "target"]);
    assert_eq!(status, 1, "{said}");
    assert_eq!(bed.run(&[], &["status", "--on", "target", "--database-url", &bed.url]).0, 2);
}

#[tokio::test]
async fn a_drift_check_that_is_told_to_end_leaves_nothing() {
    let bed = Bed::start().await;
    bed.write(
        "a/1.sql",
        "DO $$ BEGIN IF current_database() LIKE 'pgdb\\_drift%' THEN PERFORM pg_sleep(600); END IF; END $$;",
    );
    bed.ends(0, &["run"]);
    let target = sql::login(&bed.url).await.expect("in");
    let count = async |sql: &str| target.run(sql).await.expect("looked").unwrap_or_default();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut check = bed.command(&[("DATABASE_URL", &bed.url)], &["drift"]);
        let child = check.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgdb runs");
        let child = std::cell::RefCell::new(child);
        let sleeping =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE 'pgdb\\_drift%'";
        let look = || async { (count(sleeping).await == "1").then_some(()) };
        wait::until(Duration::from_secs(30), "the check to be at work", look).await;
        kill(Pid::from_raw(child.borrow().id().cast_signed()), signal).expect("told");
        let look = || async { child.borrow_mut().try_wait().expect("looked") };
        let status = wait::until(Duration::from_secs(30), "the check to end", look).await;
        assert_eq!(status.code(), Some(1), "{signal}: {status}");
        assert_eq!(
            count("SELECT count(*) FROM pg_database WHERE datname LIKE 'pgdb\\_drift\\_%'").await,
            "0",
            "{signal}"
        );
    }
}

#[tokio::test]
async fn a_text_that_is_nested_without_end_crashes_nothing() {
    let bed = Bed::start().await;
    bed.write("a/1.sql", &format!("SELECT {}1{};", "(".repeat(20_000), ")".repeat(20_000)));
    bed.write("a/2.sql", &format!("SELECT 1{};", " + 1".repeat(200_000)));
    let said = bed.ends(0, &["lint"]);
    assert!(said.contains("a/1.sql:1:1: note: too-large") && said.contains("a/2.sql:1:1: note: too-large"), "{said}");
    assert!(bed.ends(0, &["plan"]).contains("note: too-large"));
    // What PostgreSQL says of it is PostgreSQL's.
    assert!(bed.ends(1, &["run", "--lint"]).contains("a/1.sql"));
}
