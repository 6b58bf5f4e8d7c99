//! `pgdb migrate rollout`: a template, its previews and instances brought up to date by the daemon.

use crate::previews::bed::{Bed, SERVER};
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
const LIMIT: Duration = Duration::from_secs(30);

struct Files<'a> {
    bed: &'a Bed,
    folder: PathBuf,
}

impl<'a> Files<'a> {
    fn of(bed: &'a Bed) -> Self {
        let folder = bed.daemon.folder().join("migrations");
        fs::create_dir_all(folder.join("shop")).expect("a folder");
        Self { bed, folder }
    }

    fn write(&self, name: &str, sql: &str) -> &Self {
        fs::write(self.folder.join("shop").join(name), sql).expect("written");
        self
    }

    fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.folder.join("shop").join(name)).expect("removed");
        self
    }

    /// Runs `pgdb migrate rollout`; exit status, standard output, standard error.
    fn rollout(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.bed.daemon.command();
        command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", self.bed.daemon.http_port()));
        command.args(["migrate", "rollout"]).args(arguments);
        if !arguments.contains(&"--show") {
            command.arg("--dir").arg(&self.folder);
        }
        let output = command.output().expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The same as JSON.
    fn report(&self, code: i32, arguments: &[&str]) -> Value {
        let (found, stdout, stderr) = self.rollout(&[arguments, &["--json"]].concat());
        assert_eq!(found, code, "{stdout}{stderr}");
        serde_json::from_str(&stdout).expect("JSON")
    }
}

/// `name state` of every database.
fn states(report: &Value) -> Vec<String> {
    let items = report["items"].as_array().expect("items").iter();
    let text = |item: &Value, field: &str| item[field].as_str().expect("text").to_owned();
    items.map(|item| format!("{} {}", text(item, "name"), text(item, "state"))).collect()
}

const WITH_TEMPLATE: &[&str] = &["--template-itself", "--previews"];

#[tokio::test]
async fn a_template_and_its_previews_are_brought_up_to_date_and_stay_so() {
    let bed = Bed::start().await;
    bed.admin("ALTER DATABASE template_medusa SET work_mem = '7MB'; CREATE ROLE guest LOGIN").await;
    bed.admin("GRANT CONNECT ON DATABASE template_medusa TO guest").await;
    let (one, two) = (bed.ensure(1).await, bed.ensure(2).await);
    let files = Files::of(&bed);
    files.write(
        "001_notes.sql",
        "ALTER TABLE shop.orders ADD COLUMN more text; CREATE TABLE shop.of_ours AS SELECT 1 AS n",
    );

    let (code, stdout, _) = files.rollout(&[WITH_TEMPLATE, &["--dry-run", "--exit-code"]].concat());
    assert!(code == 3 && stdout.contains("· preview 1 (medusa_pr_1): 1 file to run"), "{stdout}");
    let none = "SELECT coalesce(to_regclass('pgdb.migrations')::text, 'none')";
    assert_eq!(sql::run(&bed.app_url(&one), none).await, "none");

    let (code, stdout, stderr) = files.rollout(WITH_TEMPLATE);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.ends_with("All migrations applied (3 databases)\n"), "{stdout}");
    let three = bed.ensure(3).await;
    for preview in [&one, &two, &three] {
        let url = bed.app_url(preview);
        let owner = "SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'of_ours'";
        assert_eq!(sql::run(&url, owner).await, "t");
        assert_eq!(sql::run(&url, "SELECT count(more) + count(*) FROM shop.orders").await, "100");
        // The ledger says what is true, and is the operator's.
        let ledger = "SELECT string_agg(key || ' ' || outcome, ',') FROM pgdb.migrations";
        assert_eq!(sql::run(&url, ledger).await, "shop/001_notes.sql applied");
        for forbidden in [
            "DELETE FROM pgdb.migrations",
            "INSERT INTO pgdb.migrations (key, outcome, version) VALUES ('shop/002.sql', 'applied', '1')",
            "ALTER TABLE pgdb.migrations ADD COLUMN mine integer",
            "CREATE TABLE pgdb.mine (n integer)",
            "CREATE TRIGGER mine BEFORE INSERT ON pgdb.migrations FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ] {
            let session = sql::login(&url).await.expect("the app logs in");
            let error = session.run(forbidden).await.expect_err(forbidden);
            assert!(sql::explain(&error).contains("42501"), "{forbidden}: {}", sql::explain(&error));
        }
    }
    // What PostgreSQL does not copy is on the new template too.
    assert_eq!(sql::run(&bed.app_url(&three), "SHOW work_mem").await, "7MB");
    let guest = "SELECT has_database_privilege('guest', 'template_medusa', 'CONNECT')";
    assert_eq!(bed.admin(guest).await, "t");
    assert_eq!(
        states(&files.report(0, WITH_TEMPLATE)),
        ["template_medusa up_to_date", "medusa_pr_1 up_to_date", "medusa_pr_2 up_to_date", "medusa_pr_3 up_to_date"]
    );
    files.write("002_more.sql", "ALTER TABLE shop.orders ADD COLUMN still_more text");
    let (_, stdout, _) = files.rollout(&[WITH_TEMPLATE, &["--dry-run"]].concat());
    let of_template = stdout.lines().find(|line| line.contains("template template_medusa")).expect("the template");
    assert!(of_template.ends_with("1 file to run"), "{stdout}");
    bed.daemon.poke("/v1/templates/template_medusa/lock").await.expect(200);
    let (code, stdout, stderr) = files.rollout(&[WITH_TEMPLATE, &["--dry-run"]].concat());
    assert!(code == 1 && stderr.contains("template template_medusa: 'template_medusa' is locked"), "{stdout}{stderr}");
    // Nothing but the previous template was made on the way.
    let kept = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'template\\_m%'";
    assert_eq!(bed.admin(kept).await, "template_medusa template_medusa_previous");
}

#[tokio::test]
async fn as_many_databases_as_are_allowed_are_worked_on_beside_each_other() {
    let bed = Bed::start().await;
    let urls =
        [bed.app_url(&bed.ensure(1).await), bed.app_url(&bed.ensure(2).await), bed.app_url(&bed.ensure(3).await)];
    let mut gates = Vec::new();
    for url in &urls[..2] {
        let gate = sql::login(url).await.expect("in");
        gate.run("SELECT pg_advisory_lock(4711)").await.expect("locked");
        gates.push(gate);
    }
    let files = json!([{ "name": "shop/001_waits.sql", "sql": "SELECT pg_advisory_xact_lock(4711)" }]);
    let body = Body::Json(json!({ "files": files, "to": { "previews": true }, "at_once": 2 }));
    let begun = bed.daemon.send(Method::POST, "/v1/migrations?wait=false", body).await.expect(202);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
    let both = || async { (bed.admin(waiting).await == "2").then_some(()) };
    wait::until(LIMIT, "two databases to be worked on", both).await;
    // The third has nothing to wait for but its turn.
    drop(gates);
    assert_eq!(bed.daemon.wait_operation(begun["id"].as_str().expect("an id")).await["state"], "succeeded");
    let mut ends = Vec::new();
    for url in &urls {
        let end = "SELECT extract(epoch FROM applied_at) FROM pgdb.migrations";
        ends.push(sql::run(url, end).await.parse::<f64>().expect("a time"));
    }
    assert!(ends[2] > ends[0].min(ends[1]), "{ends:?}");
}

#[tokio::test]
async fn one_database_that_fails_is_told_and_the_others_are_done() {
    let bed = Bed::start().await;
    let (_, two, _) = (bed.ensure(1).await, bed.ensure(2).await, bed.ensure(3).await);
    sql::run(&bed.app_url(&two), "CREATE TABLE shop.taken (n integer)").await;
    let files = Files::of(&bed);
    files.write("001_taken.sql", "SELECT 1;\nCREATE TABLE shop.taken (n integer);");

    let (code, stdout, stderr) = files.rollout(&["--previews", "--keep-going"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(
        stdout.contains("✓ preview 1 (medusa_pr_1): 1 file") && stdout.contains("✓ preview 3 (medusa_pr_3): 1 file"),
        "{stdout}"
    );
    for part in ["✗ preview 2 (medusa_pr_2): shop/001_taken.sql:2", "already exists", "1 of 3 databases could not be"]
    {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let operation = stderr.split_whitespace().find_map(|word| word.strip_prefix("op_")).expect("an operation");
    let operation = format!("op_{}", operation.trim_end_matches('`'));
    let shown = files.report(0, &["--show", &operation]);
    assert_eq!(states(&shown), ["medusa_pr_1 applied", "medusa_pr_2 failed", "medusa_pr_3 applied"]);
    assert_eq!((&shown["complete"], &shown["ended"]), (&json!(false), &json!(true)));

    sql::run(&bed.app_url(&two), "DROP TABLE shop.taken").await;
    assert_eq!(
        states(&files.report(0, &["--preview", "2", "--preview", "3"])),
        ["medusa_pr_2 applied", "medusa_pr_3 up_to_date"]
    );
    // A template that cannot be migrated stays as it was, and so does everything else.
    files.remove("001_taken.sql").write("002_bad.sql", "CREATE TABLE shop.half (n integer); SELECT 1 / 0");
    let (code, stdout, stderr) = files.rollout(&[WITH_TEMPLATE, &["--at-once", "1"]].concat());
    assert!(
        code == 1 && stderr.contains("nothing else was") && stderr.contains("division by zero"),
        "{stdout}{stderr}"
    );
    assert_eq!(stderr.matches("division by zero").count(), 1, "told once: {stderr}");
    let left = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'template\\_m%'";
    assert_eq!(bed.admin(left).await, "template_medusa");
    let half = "SELECT count(*) FROM pg_tables WHERE tablename = 'half'";
    assert_eq!(sql::run(&bed.app_url(&two), half).await, "0");
    let (code, _, stderr) = files.rollout(&["--previews", "--at-once", "1"]);
    assert!(code == 1 && stderr.contains("1 of 3 databases") && stderr.contains("2 more were not tried"), "{stderr}");
}

#[tokio::test]
async fn an_app_gains_nothing_by_what_it_leaves_in_its_preview() {
    let bed = Bed::start().await;
    let one = bed.ensure(1).await;
    let url = bed.app_url(&one);
    // A ledger of its own making, with what would run as whoever writes into it.
    for statement in [
        "CREATE SCHEMA pgdb",
        "CREATE TABLE pgdb.migrations (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, sha256 text, \
         outcome text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), took_ms bigint NOT NULL DEFAULT 0, \
         version text NOT NULL, applied_by text NOT NULL DEFAULT session_user, statements_done bigint, \
         attempts bigint NOT NULL DEFAULT 1, error text, locks jsonb NOT NULL DEFAULT '[]')",
        "CREATE TABLE public.caught (who text)",
        "CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO public.caught VALUES (current_user); RETURN new; END'",
        "CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON pgdb.migrations FOR EACH ROW EXECUTE FUNCTION public.trap()",
        "SELECT 1",
    ] {
        sql::run(&url, statement).await;
    }
    let files = Files::of(&bed);
    files.write(
        "001_who.sql",
        "RESET ROLE; RESET SESSION AUTHORIZATION; CREATE TABLE public.who AS SELECT current_user",
    );
    let (code, stdout, stderr) = files.rollout(&["--previews"]);
    assert!(code == 1 && stderr.contains("pgdb.migrations"), "{stdout}{stderr}");
    assert_eq!(sql::run(&url, "SELECT count(*) FROM public.caught").await, "0");
    sql::run(&url, "DROP SCHEMA IF EXISTS nothing").await;
    bed.daemon.poke("/v1/previews/-/1/reset").await.expect(200);
    let (code, stdout, stderr) = files.rollout(&["--previews"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(sql::run(&url, "SELECT current_user FROM public.who").await, "medusa_pr_app_1");
}

#[tokio::test]
async fn instances_are_brought_up_to_date_and_wrong_requests_are_refused() {
    let bed = Bed::start().await;
    bed.ensure(1).await;
    let other = bed.daemon.deploy_named("other").await;
    let url = other["database_url"].as_str().expect("a URL").to_owned();
    let files = Files::of(&bed);
    let (code, _, stderr) = files.rollout(&["--instance", "other"]);
    assert!(code == 1 && stderr.contains("holds no .sql file"), "{stderr}");
    files.write("001_t.sql", "CREATE TABLE t AS SELECT 5 AS n");
    let (code, _, stderr) = files.rollout(&[]);
    assert!(code == 2 && stderr.contains("--all-instances"), "{stderr}");
    for (arguments, code) in [
        (&["--instance", "nobody"][..], "there is no database called 'nobody'"),
        (&["--preview", "9"], "there is no preview 9"),
        (&["--previews", "--template", "nonsense'"], "there is no template"),
    ] {
        let (status, _, stderr) = files.rollout(arguments);
        assert!(status == 1 && stderr.contains(code), "{arguments:?}: {stderr}");
    }
    assert_eq!(states(&files.report(0, &["--instance", "other"])), ["other applied"]);
    assert_eq!(sql::run(&url, "SELECT n FROM t").await, "5");
    // `pgdb migrate` by hand finds the same ledger.
    let mut command = bed.daemon.command();
    command.env("DATABASE_URL", &url).args(["migrate", "status", "--exit-code", "--dir"]).arg(&files.folder);
    assert_eq!(command.output().expect("the command runs").status.code(), Some(0));

    bed.daemon.poke("/v1/db/other/stop").await.expect(200);
    let (code, stdout, stderr) = files.rollout(&["--all-instances", "--keep-going"]);
    assert!(code == 1 && stderr.contains("pgdb start other"), "{stderr}");
    assert!(stdout.contains(&format!("✓ instance {SERVER}: 1 file")), "{stdout}");

    let body = |files: Value, to: Value| json!({ "files": files, "to": to });
    let good = json!([{ "name": "a/1.sql", "sql": "" }]);
    for (body, code) in [
        (body(good.clone(), json!({})), "invalid_value"),
        (body(json!([]), json!({ "all_instances": true })), "invalid_value"),
        (body(json!([{ "name": "../1.sql", "sql": "" }]), json!({ "all_instances": true })), "invalid_value"),
    ] {
        assert_eq!(bed.daemon.post("/v1/migrations", &body).await.refused(400), code);
    }
    let ensure = bed.daemon.get("/v1/operations?kind=preview.ensure").await.expect(200);
    let id = ensure["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(bed.daemon.get(&format!("/v1/migrations/{id}")).await.refused(404), "operation_not_found");
    let limited = json!({ "name": "previews only", "scopes": ["previews"] });
    let token = bed.daemon.post("/v1/tokens", &limited).await.expect(201);
    let limited = bed.daemon.with_token(token["token"].as_str().expect("a token"));
    let asked = limited.post("/v1/migrations", &body(good, json!({ "previews": true }))).await;
    assert_eq!(asked.refused(403), "forbidden");
}

#[tokio::test]
async fn the_server_of_previews_is_none_of_all_instances_and_is_named_in_every_line() {
    let mut daemon = Daemon::prepare(BINARY);
    daemon.set_env("PGDB_PREVIEW_POOL_MAX", "0");
    daemon.up(&[]).await;
    let folder = daemon.folder().join("migrations/public");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("001_t.sql"), "CREATE TABLE t (n integer)").expect("written");
    let pgdb = |arguments: &[&str]| {
        let mut command = daemon.command();
        command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", daemon.http_port()));
        let output = command.env("MIGRATIONS_DIR", daemon.folder().join("migrations")).args(arguments).output();
        let output = output.expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    };
    let built = json!({ "files": [{ "name": "001_of_template.sql", "sql": "CREATE TABLE public.items (n integer)" }] });
    daemon.post("/v1/templates/template_medusa/build", &built).await.expect(200);
    let (code, _, stderr) = pgdb(&["preview", "ensure", "12"]);
    assert!(code == 0 && stderr.contains("it is the first on the instance 'previews', the server that"), "{stderr}");
    let (code, _, stderr) = pgdb(&["preview", "ensure", "13"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "said once");
    daemon.deploy_named("app").await;

    let (code, stdout, stderr) = pgdb(&["migrate", "rollout", "--all-instances"]);
    assert!(code == 0 && stdout.starts_with("✓ instance app: 1 file, "), "{stderr}");
    assert!(stdout.ends_with("All migrations applied (1 database)\n"), "{stdout}");
    let (code, stdout, stderr) = pgdb(&["migrate", "rollout", "--instance", "previews", "--dry-run"]);
    assert!(code == 0 && stdout.contains("· instance previews: 1 file to run"), "{stdout}{stderr}");

    let (code, stdout, stderr) = pgdb(&["migrate", "rollout", "--preview", "12"]);
    assert!(code == 0 && stdout.starts_with("✓ preview 12 (medusa_pr_12) on previews: 1 file, "), "{stdout}{stderr}");
    fs::write(folder.join("002_bad.sql"), "SELECT 1 / 0").expect("written");
    let (code, _, stderr) = pgdb(&["migrate", "rollout", "--previews", "--keep-going"]);
    assert!(code == 1 && stderr.contains("✗ preview 12 (medusa_pr_12) on previews: public/002_bad.sql:1"), "{stderr}");
    assert!(stderr.contains("✗ preview 13 (medusa_pr_13) on previews: "), "{stderr}");

    // Nothing is run and nothing is known of one that is stopped, which is no success.
    daemon.poke("/v1/db/previews/stop").await.expect(200);
    let (code, _, stderr) = pgdb(&["migrate", "rollout", "--previews", "--dry-run"]);
    assert!(code == 1 && stderr.contains("✗ preview 12 (medusa_pr_12) on previews: "), "{code}: {stderr}");
    let (code, _, stderr) = pgdb(&["preview", "psql", "12"]);
    assert!(code == 1 && stderr.contains("'previews' is stopped; start it: `pgdb start previews`"), "{stderr}");
}

#[tokio::test]
async fn a_report_tells_what_a_try_had_run_whose_daemon_was_killed() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("shop").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    let gate = sql::login(url).await.expect("in");
    gate.run("SELECT pg_advisory_lock(4711)").await.expect("locked");
    let files = [("public/001_a.sql", "CREATE TABLE a ()"), ("public/002_b.sql", "SELECT pg_advisory_xact_lock(4711)")];
    let files = files.map(|(name, sql)| json!({ "name": name, "sql": sql }));
    let body = Body::Json(json!({ "files": files, "to": { "instances": ["shop"] } }));
    let begun = daemon.send(Method::POST, "/v1/migrations?wait=false", body).await.expect(202);
    // The first file is done, and the second waits.
    let waits =
        "SELECT 1 FROM pg_locks, pgdb.migrations WHERE locktype = 'advisory' AND NOT granted AND outcome = 'applied'";
    let look = || async { gate.run(waits).await.ok().flatten() };
    wait::until(LIMIT, "the second file to wait", look).await;
    daemon.kill9().await;
    drop(gate);
    daemon.up(&[]).await;
    let id = begun["id"].as_str().expect("an operation");
    assert_eq!(daemon.wait_operation(id).await["state"], "succeeded");
    let report = daemon.get(&format!("/v1/migrations/{id}")).await.expect(200);
    let item = &report["items"][0];
    assert_eq!((&item["state"], &item["files"]), (&json!("applied"), &json!(["public/001_a.sql", "public/002_b.sql"])));
}
