//! `pgdb migrate` as a program: what it prints, how it ends, and what a kill leaves.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// A database, a folder for files, and the command.
struct Bed {
    _daemon: Daemon,
    url: String,
    folder: TempDir,
}

impl Bed {
    /// `version` is a major; the newest when there is none.
    async fn start(version: Option<u16>) -> Self {
        let daemon = Daemon::start(BINARY).await;
        let mut request = json!({ "name": "target" });
        if let Some(version) = version {
            request["version"] = version.into();
        }
        let instance = daemon.deploy(request).await;
        let url = instance["database_url"].as_str().expect("a URL").to_owned();
        Self { _daemon: daemon, url, folder: tempfile::tempdir().expect("a folder") }
    }

    fn write(&self, key: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOME", self.folder.path()).env("DATABASE_URL", &self.url);
        command.env("MIGRATIONS_DIR", self.folder.path()).arg("migrate").args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end; standard output, standard error.
    fn ends(&self, code: i32, args: &[&str]) -> (String, String) {
        let output = self.command(args).output().expect("pgdb runs");
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        let password = self.url.split([':', '@']).nth(2).expect("a password");
        assert!(!out.contains(password) && !err.contains(password), "{out}{err}");
        (out, err)
    }

    fn json(&self, code: i32, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        serde_json::from_str(&self.ends(code, &args).0).expect("JSON")
    }

    async fn ask(&self, sql: &str) -> String {
        sql::run(&self.url, sql).await
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_schema_is_brought_up_to_date_and_kept_so() {
    let bed = Bed::start(None).await;
    let (path, _) = bed.ends(0, &["new", "create orders", "--schema", "shop"]);
    assert!(path.trim_end().ends_with("shop/001_create_orders.sql"), "{path}");
    bed.write("shop/001_create_orders.sql", "CREATE TABLE orders (a int);\nDO $$ BEGIN RAISE NOTICE 'heard'; END $$;");
    bed.write("shop_002_index.sql", "CREATE INDEX ON orders (a);");
    for wrong in [vec!["new", ""], vec!["new", " - "], vec!["new", "shop/more"]] {
        bed.ends(2, &wrong);
    }
    assert!(bed.ends(2, &["new", "shop/more"]).1.contains("pgdb migrate new 'more' --schema shop"));
    let (path, err) = bed.ends(0, &["new", "003_more", "--schema", "late"]);
    assert!(path.ends_with("late/001_003_more.sql\n") && err.contains("the number comes by itself"), "{path}{err}");
    fs::remove_dir_all(bed.folder.path().join("late")).expect("removed");
    bed.ends(3, &["status", "--exit-code"]);
    bed.ends(0, &["status"]);
    assert!(bed.ends(0, &["plan"]).0.contains("shop/001_create_orders.sql  pending: 2 statements, one transaction"));
    bed.ends(3, &["plan", "--exit-code"]);
    assert_eq!(bed.ends(0, &["validate"]).0, "2 files, nothing odd\n");
    bed.write("shop/003_bad.sql", "SELECT 1;\n\\set x 1\n");
    let (plan, _) = bed.ends(0, &["plan"]);
    assert_eq!(plan.matches("command of psql").count(), 1, "{plan}");
    assert!(plan.contains("shop/002_index.sql  pending: 1 statement, one transaction"), "{plan}");
    fs::remove_file(bed.folder.path().join("shop/003_bad.sql")).expect("removed");
    // Looking alone makes no ledger.
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('pgdb.migrations')::text, 'none')").await, "none");

    let (out, err) = bed.ends(0, &["run"]);
    assert!(out.ends_with("All migrations applied (2 run now, 0 before)\n"), "{out}");
    assert!(out.contains("✓ shop/002_index.sql") && out.contains("public.orders (Share)"), "{out}");
    assert_eq!(err, "shop/001_create_orders.sql: NOTICE: heard\n");
    assert_eq!(bed.ends(0, &["run"]).0, "All migrations applied (0 run now, 2 before)\n");
    bed.ends(0, &["status", "--exit-code"]);
    let history = bed.json(0, &["history", "shop/002_index.sql"]);
    assert_eq!((&history[0]["outcome"], &history[0]["locks"][0]["mode"]), (&json!("applied"), &json!("ShareLock")));

    bed.write(
        "shop/001_create_orders.sql",
        "CREATE TABLE IF NOT EXISTS orders (a int); INSERT INTO orders VALUES (1);",
    );
    let (out, err) = bed.ends(1, &["run"]);
    assert!(out.is_empty() && err.contains("'shop/001_create_orders.sql' was changed after it was run"), "{out}{err}");
    assert!(bed.ends(1, &["validate"]).0.contains("error: shop/001_create_orders.sql"));
    bed.ends(0, &["repair"]);
    bed.ends(0, &["status", "--exit-code"]);
    assert_eq!(bed.ask("SELECT count(*) FROM orders").await, "0");
    bed.write("shop/001_create_orders.sql", "INSERT INTO orders VALUES (2);");
    bed.ends(0, &["run", "--rerun-changed"]);
    assert_eq!(bed.ask("SELECT count(*) FROM orders").await, "1");

    fs::remove_file(bed.folder.path().join("shop_002_index.sql")).expect("removed");
    assert_eq!(bed.json(0, &["status"])["missing"], json!(["shop/002_index.sql"]));
    assert_eq!(bed.json(0, &["repair"])[0]["outcome"], "forgotten");
    assert_eq!(bed.json(0, &["status"])["missing"], json!([]));
}

#[tokio::test]
async fn a_failure_is_shown_and_told_by_the_exit_status() {
    let bed = Bed::start(None).await;
    bed.write("a/1.sql", "CREATE TABLE t (a int);");
    bed.write("a/2.sql", "SELECT 1;\nSELECT missing FROM t;\n");
    bed.write("a/3.sql", "CREATE TABLE three ();");
    let (out, err) = bed.ends(1, &["run"]);
    assert!(out.starts_with("✓ a/1.sql") && !out.contains("All migrations"), "{out}");
    assert!(err.contains("✗ a/2.sql:2:8: column \"missing\" does not exist (SQLSTATE 42703)\n 2 | SELECT missing FROM t;\n   |        ^\n"), "{err}");
    assert!(err.ends_with("error: migrations are not complete: 1 applied, 1 failed, 1 not reached\n"), "{err}");
    let report = bed.json(1, &["run", "--keep-going"]);
    assert_eq!((&report["applied"], &report["failed"]), (&json!(1), &json!(1)));
    assert_eq!(report["files"][0]["failure"]["line"], 2);
    let status = bed.json(3, &["status", "--exit-code"]);
    assert_eq!(status["files"][1]["error"], "line 2, column 8: column \"missing\" does not exist (SQLSTATE 42703)");
    let (table, _) = bed.ends(0, &["status"]);
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["FILE", "STATE", "AT", "TOOK"]);
    assert_eq!(lines[2], "a/2.sql  failed, out of order");
    assert_eq!(lines[3], "  line 2, column 8: column \"missing\" does not exist (SQLSTATE 42703)");
    bed.ends(0, &["repair", "a/2.sql", "--done"]);
    let (table, _) = bed.ends(0, &["status"]);
    let repaired = table.lines().find(|line| line.starts_with("a/2.sql")).expect("its line");
    assert!(repaired.contains("up to date (repaired)") && !repaired.contains("ms"), "{table}");
    let (table, _) = bed.ends(0, &["history", "a/2.sql"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["AT", "FILE", "OUTCOME", "TOOK"]);
    assert!(lines[2].starts_with("  by u_") && lines[4].ends_with(", 2 times"), "{table}");
    assert_eq!(lines[5], "  line 2, column 8: column \"missing\" does not exist (SQLSTATE 42703)");
    bed.ends(0, &["run"]);

    bed.ends(2, &["repair", "a/9.sql"]);
    bed.ends(2, &["run", "--out-of-order", "maybe"]);
    bed.ends(2, &["run", "--database-url", "mysql://x"]);
    let (_, err) = bed.ends(1, &["run", "--dir", "/nowhere"]);
    assert!(["/nowhere", "--dir", "`pgdb migrate new NAME`"].iter().all(|part| err.contains(part)), "{err}");
    let nobody = bed.command(&["run"]).env_remove("DATABASE_URL").output().expect("pgdb runs");
    assert_eq!(nobody.status.code(), Some(2));
    assert!(texts(&nobody).1.contains("DATABASE_URL"));
}

#[tokio::test]
async fn a_database_with_its_schema_is_taken_over() {
    let bed = Bed::start(None).await;
    bed.write("a/1.sql", "CREATE TABLE t (a int);");
    bed.write("a/2.sql", "CREATE TABLE t (a int);");
    bed.write("a/3.sql", "CREATE TABLE three ();");
    bed.ends(2, &["baseline", "--to", "a/9.sql"]);
    let second = bed.folder.path().join("a/2.sql").display().to_string();
    assert_eq!(bed.json(0, &["baseline", "--to", &second]), json!(["a/1.sql", "a/2.sql"]));
    assert_eq!(bed.ends(0, &["baseline", "--to", &second]).0, "Every file up to a/2.sql was run already.\n");
    assert_eq!(bed.json(0, &["history", &second])[0]["outcome"], "baseline");
    let (table, error) = bed.ends(0, &["history", "a/9.sql"]);
    assert!(table.is_empty() && error.contains("knows no attempt of 'a/9.sql'"), "{table}{error}");
    let (out, _) = bed.ends(0, &["run"]);
    assert!(out.ends_with("All migrations applied (1 run now, 2 before)\n"), "{out}");
    assert_eq!(bed.ask("SELECT to_regclass('t') IS NULL").await, "t");
}

#[tokio::test]
async fn four_at_once_all_succeed() {
    let bed = Bed::start(None).await;
    bed.write("a/000.sql", "CREATE TABLE ran (n int);");
    for n in 1..100 {
        bed.write(&format!("a/{n:03}.sql"), format!("INSERT INTO ran VALUES ({n});"));
    }
    let running: Vec<Child> = (0..4).map(|_| bed.command(&["run"]).spawn().expect("pgdb runs")).collect();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{:?}", texts(&output));
    }
    assert_eq!(bed.ask("SELECT count(*) || ' ' || count(DISTINCT n) FROM ran").await, "99 99");
}

/// Each file waits in its middle for a lock that the test has, and is killed there.
async fn killed_in_every_file(version: Option<u16>) {
    let bed = Bed::start(version).await;
    const WAIT: &str = "SELECT pg_advisory_xact_lock(4711);";
    let files = [
        ("a/1.sql", format!("CREATE TABLE t1 (); {WAIT} INSERT INTO t1 DEFAULT VALUES;")),
        ("a/2.sql", format!("BEGIN;\nCREATE TABLE t2 ();\n{WAIT}\nALTER TABLE t1 ADD COLUMN a int;\nCOMMIT;")),
        (
            "a/3.sql",
            format!("CREATE TABLE t3 (a int);\nCOPY t3 FROM STDIN;\n1\n2\n\\.\n{WAIT}\nUPDATE t3 SET a = a + 1;"),
        ),
        (
            "a/4.sql",
            format!(
                "-- no-transaction\nCREATE TABLE t4 (a int);\nINSERT INTO t4 VALUES (1);\n{WAIT}\nINSERT INTO t4 VALUES (2);\nCREATE INDEX CONCURRENTLY i4 ON t4 (a);"
            ),
        ),
        ("a/R__5.sql", format!("CREATE OR REPLACE VIEW v5 AS SELECT 1 AS n; {WAIT} INSERT INTO t4 VALUES (3);")),
    ];
    let gate = sql::login(&bed.url).await.expect("a session");
    let ask = async |sql: &str| gate.run(sql).await.expect(sql).unwrap_or_default();
    const STATE: &str = "SELECT coalesce((SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace), '') || ' / ' || coalesce((SELECT string_agg(key, ' ' ORDER BY id) \
         FROM pgdb.migrations WHERE outcome = 'applied'), '')";
    const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let mut before = String::new();
    for (index, (key, text)) in files.iter().enumerate() {
        bed.write(key, text);
        ask("SELECT pg_advisory_lock(4711)").await;
        let mut child = bed.command(&["run", "--lock-timeout", "60s"]).spawn().expect("pgdb runs");
        until(async || ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await == "1")
            .await;
        child.kill().expect("killed");
        child.wait().expect("reaped");
        // The server notices by itself although its statement waits.
        until(async || ask(OTHERS).await == "0").await;
        let after = ask(STATE).await;
        match *key {
            // What was committed stays, and the file is not counted as done.
            "a/4.sql" => assert_eq!(after, before.replace("t3 /", "t3 t4 /"), "{key}"),
            "a/1.sql" => assert_eq!(after, " / ", "{key}"),
            _ => assert_eq!(after, before, "{key}"),
        }
        ask("SELECT pg_advisory_unlock(4711)").await;
        let (out, _) = bed.ends(0, &["run"]);
        assert!(out.ends_with(&format!("All migrations applied (1 run now, {index} before)\n")), "{out}");
        before = ask(STATE).await;
    }
    assert_eq!(before, "i4 t1 t2 t3 t4 v5 / a/1.sql a/2.sql a/3.sql a/4.sql a/R__5.sql");
    assert_eq!(ask("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t3").await, "2 3");
    assert_eq!(ask("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t4").await, "1 2 3");
}

#[tokio::test]
async fn a_kill_in_the_middle_of_any_file_leaves_nothing_half_applied() {
    killed_in_every_file(None).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_any_file_leaves_nothing_half_applied_on_15() {
    killed_in_every_file(Some(15)).await;
}

/// Killed while an index of no name, and then a REINDEX, wait for a writer in their middle.
async fn killed_while_it_makes_indexes(version: Option<u16>) {
    let bed = Bed::start(version).await;
    bed.write("a/1.sql", "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (1, 1);");
    bed.ends(0, &["run"]);
    let session = sql::login(&bed.url).await.expect("a session");
    let ask = async |sql: &str| session.run(sql).await.expect(sql).unwrap_or_default();
    let writer = sql::login(&bed.url).await.expect("a session");
    // Somebody's own failure, which is not ours to mend.
    session.run("CREATE UNIQUE INDEX CONCURRENTLY ON t (a)").await.expect_err("there are doubles");
    const INDEXES: &str = "SELECT string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname) FROM pg_index \
         JOIN pg_class ON oid = indexrelid WHERE indrelid = 't'::regclass";
    const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND backend_type = 'client backend' AND query NOT LIKE '%UPDATE t SET%' AND query <> 'ROLLBACK' AND pid <> pg_backend_pid()";
    for (key, text, left, dropped, after) in [
        (
            "a/2.sql",
            "SET search_path TO public;\nCREATE INDEX CONCURRENTLY ON t (a);",
            "t_a_idx false, t_a_idx1 false",
            "public.t_a_idx1",
            "t_a_idx false, t_a_idx1 true",
        ),
        (
            "a/3.sql",
            "REINDEX INDEX CONCURRENTLY t_a_idx1;",
            "t_a_idx false, t_a_idx1 true, t_a_idx1_ccnew false",
            "public.t_a_idx1_ccnew",
            "t_a_idx false, t_a_idx1 true",
        ),
    ] {
        bed.write(key, format!("-- no-transaction\n{text}"));
        writer.run("BEGIN; UPDATE t SET b = 2").await.expect("written");
        let mut child = bed.command(&["run", "--lock-timeout", "60s"]).spawn().expect("pgdb runs");
        until(async || ask("SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted").await == "1")
            .await;
        child.kill().expect("killed");
        child.wait().expect("reaped");
        until(async || ask(OTHERS).await == "0").await;
        writer.run("ROLLBACK").await.expect("given up");
        assert_eq!(ask(INDEXES).await, left);
        let (out, err) = bed.ends(0, &["run"]);
        assert!(
            out.contains(&format!("✓ {key}")) && err.contains(&format!("the invalid index {dropped};")),
            "{out}{err}"
        );
        assert_eq!(err.matches("it is dropped").count(), 1, "{err}");
        assert_eq!(ask(INDEXES).await, after);
    }
}

#[tokio::test]
async fn a_kill_while_an_index_is_made_leaves_no_index_of_ours() {
    killed_while_it_makes_indexes(None).await;
}

#[tokio::test]
async fn a_kill_while_an_index_is_made_leaves_no_index_of_ours_on_15() {
    killed_while_it_makes_indexes(Some(15)).await;
}

#[tokio::test]
async fn a_half_done_file_is_corrected_and_gone_on_with() {
    let bed = Bed::start(None).await;
    let half = "-- no-transaction\nCREATE TABLE t (a int);\nALTER TABLE t ADD COLUMN b int;\n";
    bed.write("a/1.sql", format!("{half}CREATE INDEX CONCURRENTLY i ON t (c);"));
    bed.ends(1, &["run"]);
    // What is done may be written otherwise, if one says so.
    let other = half.replace("a int", "a integer");
    bed.write("a/1.sql", format!("{other}VACUUM t;\nCREATE INDEX CONCURRENTLY i ON t (a);"));
    let (_, err) = bed.ends(1, &["run"]);
    assert!(err.contains("changed in the part that an earlier run did (statements done: 2)"), "{err}");
    assert!(bed.ends(1, &["validate"]).0.contains("error: a/1.sql"));
    assert_eq!(bed.json(0, &["repair"])[0]["outcome"], "unfinished");
    let (out, err) = bed.ends(0, &["run"]);
    assert!(err.contains("did 2 of 4 statements; it goes on from there"), "{err}");
    assert!(out.contains("✓ a/1.sql") && out.contains("public.t (AccessExclusive)"), "{out}");
    assert_eq!(bed.json(0, &["history"])[0]["statements_done"], 4);
    bed.ends(0, &["status", "--exit-code"]);

    bed.write("a/2.sql", "-- no-transaction\nSELECT 1; SELECT 2; x;");
    bed.ends(1, &["run"]);
    bed.write("a/2.sql", "-- no-transaction\nSELECT 3;");
    let (_, err) = bed.ends(2, &["repair"]);
    assert!(err.contains("of 'a/2.sql' 2 statements are done, and it now has fewer"), "{err}");
    bed.ends(0, &["run", "--rerun-changed"]);
}

async fn until(look: impl AsyncFn() -> bool) {
    pgdb_testkit::wait::until(Duration::from_secs(30), "the server's word", || async { look().await.then_some(()) })
        .await;
}
