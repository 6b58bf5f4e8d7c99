//! `pgdb migrate lint`, `drift`, `run --dump` and `baseline --from`, as people call them.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The command in a folder, with nothing of this process's settings but where PostgreSQL's programs are.
fn migrate(folder: &Path, url: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdb"));
    command.env_clear().env("HOME", folder).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(engines) = std::env::var_os("PGDB_ENGINES_DIR") {
        command.env("PGDB_ENGINES_DIR", engines);
    }
    if let Some(url) = url {
        command.env("DATABASE_URL", url);
    }
    command.current_dir(folder).arg("migrate").args(args).stdin(Stdio::null());
    command
}

fn run(folder: &Path, url: Option<&str>, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = migrate(folder, url, args).output().expect("pgdb runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit status"), text(stdout), text(stderr))
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (key, text) in files {
        let path = folder.path().join("migrations").join(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    folder
}

/// A server, and the URL of its superuser.
async fn server() -> (Daemon, String) {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_pgdb")).await;
    let item = daemon.deploy(json!({ "name": "target", "superuser": true })).await;
    let url = item["database_url"].as_str().expect("a URL").to_owned();
    (daemon, url)
}

const ORDERS: (&str, &str) =
    ("shop/001_orders.sql", "CREATE SCHEMA shop;\nCREATE TABLE shop.orders (id int, day date);\n");
const BY_DAY: (&str, &str) = ("shop/002_by_day.sql", "CREATE INDEX by_day ON shop.orders (day);\n");

#[test]
fn lint_needs_no_database_and_tells_with_its_exit_status() {
    let home = folder(&[ORDERS, BY_DAY, ("shop/003_drop.sql", "ALTER TABLE shop.orders DROP COLUMN day;\n")]);
    let (status, said, summary) = run(home.path(), None, &["lint"]);
    assert_eq!(status, 1, "{said}{summary}");
    assert!(said.starts_with("shop/002_by_day.sql:1:1: error: require-concurrent-index-creation\n"), "{said}");
    assert!(said.contains("shop/003_drop.sql:1:25: warning: ban-drop-column\n"), "{said}");
    assert_eq!(summary, "1 error, 1 warning, 0 notes in 3 files\n");
    assert_eq!(run(home.path(), None, &["lint", "shop/003_drop.sql"]).0, 0);
    assert_eq!(run(home.path(), None, &["lint", "--strict", "shop/003_drop.sql"]).0, 1);
    assert_eq!(run(home.path(), None, &["lint", "--strict", "./migrations/shop/003_drop.sql"]).0, 1);
    let (status, _, error) = run(home.path(), None, &["lint", "003_drop.sql"]);
    assert!(status == 2 && error.contains("did you mean 'shop/003_drop.sql'?"), "{error}");
    assert_eq!(run(home.path(), None, &["lint", "shop/004.sql"]).0, 2);
    let rules = run(home.path(), None, &["lint", "--rules"]).1;
    let told =
        |rule: &str| rules.lines().find(|line| line.starts_with(rule)).map(|line| line.split_whitespace().nth(1));
    assert_eq!(
        (told("ban-drop-column "), told("unused-allow ")),
        (Some(Some("warning")), Some(Some("note"))),
        "{rules}"
    );
    assert!(rules.lines().all(|line| line.chars().count() <= 80), "{rules}");

    let allowed = format!("-- pgdb: allow(require-concurrent-index-creation) nobody uses it yet\n{}", BY_DAY.1);
    fs::write(home.path().join("migrations").join(BY_DAY.0), allowed).expect("written");
    let (status, said, _) = run(home.path(), None, &["lint", "--json"]);
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((status, &told["errors"]), (0, &json!(0)), "{said}");
    assert_eq!(told["files"][1]["findings"][0]["allowed"], "nobody uses it yet");
}

#[tokio::test]
async fn the_schema_is_dumped_and_drift_is_found() {
    let (_daemon, url) = server().await;
    let (home, url) = (folder(&[ORDERS, BY_DAY]), Some(url.as_str()));
    let (status, said, _) = run(home.path(), url, &["plan"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("shop/002_by_day.sql:1:1: note: require-concurrent-index-creation"), "{said}");

    let (status, said, error) = run(home.path(), url, &["run", "--dump", "schema.sql"]);
    assert_eq!(status, 0, "{said}{error}");
    let schema = fs::read_to_string(home.path().join("schema.sql")).expect("a dump");
    assert!(schema.contains("CREATE TABLE shop.orders (") && !schema.contains("pgdb"), "{schema}");
    assert_eq!(run(home.path(), url, &["run", "--dump", "schema.sql"]).0, 0);
    assert_eq!(fs::read_to_string(home.path().join("schema.sql")).expect("a dump"), schema);
    let left: Vec<_> = fs::read_dir(home.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let (status, said, error) = run(home.path(), url, &["drift"]);
    assert_eq!((status, said.as_str()), (0, ""), "{error}");
    let target = sql::login(url.expect("a URL")).await.expect("in");
    target.run("DROP INDEX shop.by_day; CREATE VIEW shop.days AS SELECT day FROM shop.orders").await.expect("changed");
    let (status, said, error) = run(home.path(), url, &["drift", "--json"]);
    let told: Value = serde_json::from_str(&said).expect("JSON");
    let kinds: Vec<&Value> = told["drifts"].as_array().expect("drifts").iter().map(|drift| &drift["kind"]).collect();
    assert_eq!((status, kinds), (3, vec![&json!("missing"), &json!("added")]), "{said}{error}");

    // A run that fails leaves the dump as it is.
    fs::write(home.path().join("migrations/shop/003_bad.sql"), "SELECT nonsense;").expect("written");
    let (_, _, error) = run(home.path(), url, &["drift"]);
    assert!(error.contains("shop/003_bad.sql is pending\n"), "{error}");
    assert_eq!(run(home.path(), url, &["run", "--dump", "schema.sql"]).0, 1);
    assert_eq!(fs::read_to_string(home.path().join("schema.sql")).expect("a dump"), schema);
}

#[tokio::test]
async fn a_run_can_be_made_to_depend_on_the_lint() {
    let (_daemon, url) = server().await;
    let home = folder(&[ORDERS]);
    assert_eq!(run(home.path(), Some(&url), &["run", "--lint"]).0, 0);
    let big = "INSERT INTO shop.orders SELECT n, now() FROM generate_series(1, 600000) n";
    sql::run(&url, big).await;
    let file = home.path().join("migrations").join(BY_DAY.0);
    fs::write(&file, BY_DAY.1).expect("written");
    let (status, said, error) = run(home.path(), Some(&url), &["run", "--lint"]);
    assert_eq!((status, said.as_str()), (1, ""), "{error}");
    assert!(error.starts_with("shop/002_by_day.sql:1:1: error: require-concurrent-index-creation\n"), "{error}");
    assert!(
        error.contains("(shop.orders takes ") && error.contains("nothing was run: the lint has 1 error;"),
        "{error}"
    );
    let pending = run(home.path(), Some(&url), &["plan", "--exit-code"]);
    assert_eq!(pending.0, 3, "{pending:?}");

    // Where no comment excuses it, none is offered.
    let concurrently = "CREATE INDEX CONCURRENTLY by_day ON shop.orders (day);\n";
    fs::write(&file, concurrently).expect("written");
    let (status, _, error) = run(home.path(), Some(&url), &["run", "--lint"]);
    assert!(status == 1 && error.ends_with("nothing was run: the lint has 1 error; mend it\n"), "{error}");
    fs::write(&file, format!("-- pgdb: no-transaction\n{concurrently}")).expect("written");
    assert_eq!(run(home.path(), None, &["lint", "--strict"]).0, 0);
    assert_eq!(run(home.path(), Some(&url), &["run", "--lint"]).0, 0);

    // A lock and a rewrite of the same table; of one that is not there yet they are notes.
    let numbered = "LOCK TABLE shop.orders IN SHARE MODE;\nALTER TABLE shop.orders ADD COLUMN number bigserial;\n\
                    LOCK TABLE shop.later;\n";
    let file = home.path().join("migrations/shop/003_number.sql");
    fs::write(&file, numbered).expect("written");
    let (status, _, error) = run(home.path(), Some(&url), &["run", "--lint"]);
    assert!(status == 1 && error.contains("nothing was run: the lint has 2 errors;"), "{error}");
    for line in ["1:12: error: explicit-lock", "2:25: error: table-rewrite", "3:12: note: explicit-lock"] {
        assert!(error.contains(&format!("shop/003_number.sql:{line}\n")), "{error}");
    }
    assert!(
        error.contains("until the transaction ends: writes of the table wait") && error.contains("(shop.orders takes ")
    );
    let allowed = "-- pgdb: allow(explicit-lock, table-rewrite) nobody is there on Sunday\n";
    fs::write(&file, format!("{allowed}{}", numbered.replace("LOCK TABLE shop.later;\n", ""))).expect("written");
    assert_eq!(run(home.path(), Some(&url), &["run", "--lint"]).0, 0);
}

#[tokio::test]
async fn a_drift_check_that_is_killed_is_cleared_away_by_the_next() {
    let (_daemon, url) = server().await;
    let slow = "DO $$ BEGIN IF current_database() LIKE 'pgdb\\_drift%' AND to_regclass('quick') IS NULL THEN \
                PERFORM pg_sleep(600); END IF; END $$;";
    let home = folder(&[("a/1.sql", "SELECT 1;"), ("a/2.sql", slow)]);
    assert_eq!(run(home.path(), Some(&url), &["run"]).0, 0);
    let target = sql::login(&url).await.expect("in");
    let mut check = migrate(home.path(), Some(&url), &["drift"]).spawn().expect("pgdb runs");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while target.run(sleeping).await.expect("looked").as_deref() != Some("1") {
        tokio::task::yield_now().await;
    }
    check.kill().expect("killed");
    check.wait().expect("ended");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgdb\\_drift\\_%'";
    assert_eq!(target.run(left).await.expect("looked").as_deref(), Some("1"), "what the killed one left");

    // The next one builds the same, but does not have to sleep.
    fs::write(home.path().join("migrations/a/1.sql"), "CREATE TABLE quick ();").expect("written");
    let (status, said, error) = run(home.path(), Some(&url), &["drift"]);
    assert_eq!(status, 3, "{said}{error}");
    assert!(said.starts_with("missing: TABLE public.quick\n"), "{said}");
    assert!(error.contains("a/1.sql has not been run as it is now"), "{error}");
    assert_eq!(target.run(left).await.expect("looked").as_deref(), Some("0"));
}

#[tokio::test]
async fn another_tools_ledger_is_taken_over() {
    let (_daemon, url) = server().await;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pg/tests/fixtures/import/refinery");
    let target = sql::login(&url).await.expect("in");
    target.run(&fs::read_to_string(fixture.join("ledger.sql")).expect("a ledger")).await.expect("loaded");
    let texts: Vec<(String, String)> = ["V1__shop.sql", "V2__notes.sql", "V3__by_day.sql"]
        .iter()
        .map(|name| (format!("app/{name}"), fs::read_to_string(fixture.join("files").join(name)).expect("text")))
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    let (home, url) = (folder(&files), Some(url.as_str()));

    let (status, said, error) = run(home.path(), url, &["baseline", "--from", "refinery", "--dry-run"]);
    assert_eq!(status, 0, "{said}{error}");
    assert!(said.ends_with("app/V3__by_day.sql: pending\n"), "{said}");
    let (status, _, error) = run(home.path(), url, &["baseline", "--from", "sqlx"]);
    assert_eq!(status, 1, "{error}");
    assert!(error.contains("'_sqlx_migrations' does not exist in this database"), "{error}");

    let second = home.path().join("migrations/app/V2__notes.sql");
    fs::write(&second, "SELECT 1;").expect("written");
    let (status, _, error) = run(home.path(), url, &["baseline", "--from", "refinery"]);
    assert_eq!(status, 1, "{error}");
    assert!(error.contains("app/V2__notes.sql has changed since version 2 (notes) was applied"), "{error}");
    fs::write(&second, files[1].1).expect("written");
    let (status, said, error) = run(home.path(), url, &["baseline", "--from", "refinery", "--json"]);
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((status, &told["written"]), (0, &json!(2)), "{said}{error}");
    let outcomes = "SELECT string_agg(key || ' ' || outcome, ', ' ORDER BY id) FROM pgdb.migrations";
    let expected = "app/V1__shop.sql imported, app/V2__notes.sql imported";
    assert_eq!(target.run(outcomes).await.expect("looked").as_deref(), Some(expected));
}
