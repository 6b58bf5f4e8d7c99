//! The script that prepares a server, on a server that nobody has prepared.

use super::bed::Bed;
use pgdb_testkit::sql;
use std::path::Path;
use std::process::{Command, Output};

/// Everything in it means something to a shell, to `psql` or to SQL.
const PASSWORD: &str = "it's \"quo\\ted\" $(exit 3) `exit 4` :'dev' %s \\q ; -- $$";
const DEV_PASSWORD: &str = "the dev's ' own";

fn script() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/previews/initdb.d/01-pgdb-preview-roles.sh").to_owned()
}

/// Where `psql` is: with the PostgreSQL that the tests use, or in the system's path.
fn path() -> String {
    let system = std::env::var("PATH").expect("a path");
    let engines = std::env::var("PGDB_ENGINES_DIR").unwrap_or_default();
    let folders = ["18", "17", "16", "15", "14"].map(|major| Path::new(&engines).join(major).join("bin"));
    match folders.iter().find(|folder| folder.join("psql").exists()) {
        Some(folder) => format!("{}:{system}", folder.display()),
        None => system,
    }
}

fn run(bed: &Bed, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("bash");
    command.arg(script()).env_clear().env("PATH", path()).envs(bed.admin_env()).envs(env.iter().copied());
    command.output().expect("run the script")
}

fn succeeds(bed: &Bed, env: &[(&str, &str)]) {
    let output = run(bed, env);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{complained}");
    assert_eq!(complained, "");
    assert!(!said.contains(PASSWORD) && !said.contains(DEV_PASSWORD), "{said}");
}

/// What the script is to leave behind, whoever looks.
const STATE: &str = "SELECT string_agg(line, '; ' ORDER BY line) FROM (
    SELECT format('%s login=%s db=%s role=%s super=%s', rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolsuper) line
    FROM pg_roles WHERE rolname IN ('zane_operator', 'medusa_dev', 'template_medusa_owner')
    UNION ALL SELECT format('%s of %s open=%s', datname, pg_get_userbyid(datdba), datallowconn)
    FROM pg_database WHERE datname = 'template_medusa'
    UNION ALL SELECT format('%s in %s', m.member::regrole, m.roleid::regrole) FROM pg_auth_members m
    WHERE m.member = 'zane_operator'::regrole) lines";
const EXPECTED: &str = "medusa_dev login=t db=f role=f super=f; template_medusa of zane_operator open=f; \
    template_medusa_owner login=f db=f role=f super=f; zane_operator in pg_signal_backend; \
    zane_operator in template_medusa_owner; zane_operator login=t db=t role=t super=f";

#[tokio::test]
async fn a_server_is_prepared_twice_and_previews_are_made_on_it() {
    // Rights on roles are others before 16.
    for major in [15, 18] {
        prepare_and_use(Bed::bare(major).await).await;
    }
}

async fn prepare_and_use(mut bed: Bed) {
    // A server that writes every statement down.
    bed.admin("ALTER SYSTEM SET log_statement = 'all'").await;
    bed.admin("SELECT pg_reload_conf()").await;
    let secrets = [("PGDB_OPERATOR_PASSWORD", PASSWORD), ("PGDB_DEV_PASSWORD", DEV_PASSWORD)];
    succeeds(&bed, &secrets);
    assert_eq!(bed.admin(STATE).await, EXPECTED);
    succeeds(&bed, &secrets);
    assert_eq!(bed.admin(STATE).await, EXPECTED);
    let stored = "SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%')::text FROM pg_authid \
                  WHERE rolname IN ('zane_operator', 'medusa_dev')";
    assert_eq!(bed.admin(stored).await, "true");
    let logs = bed.daemon.get("/v1/db/server/logs").await;
    let logs = String::from_utf8_lossy(&logs.bytes);
    assert!(logs.contains("SET log_statement = 'none'"), "nothing was written down: {logs}");
    for part in ["quo", "the dev"] {
        assert!(!logs.contains(part), "a password is in the server's log");
    }

    // A third time, without passwords: they stay, and so does what is in the template by then.
    bed.admin("ALTER DATABASE template_medusa ALLOW_CONNECTIONS true").await;
    let operator = bed.url("zane_operator", PASSWORD, "template_medusa");
    sql::run(&operator, "CREATE TABLE public.orders (id int PRIMARY KEY); INSERT INTO public.orders VALUES (1), (2)")
        .await;
    succeeds(&bed, &[]);
    assert_eq!(sql::run(&operator, "SELECT count(*) FROM public.orders").await, "2");

    // The daemon as the operator that the script has made.
    for (name, value) in bed.admin_env() {
        bed.daemon.set_env(name, &value);
    }
    for (name, value) in [("PGUSER", "zane_operator"), ("PGPASSWORD", PASSWORD)] {
        bed.daemon.set_env(name, value);
    }
    bed.daemon.remember(PASSWORD);
    bed.daemon.stop().await;
    bed.daemon.up(&[]).await;
    let ensured = bed.ensure(5).await;
    let url = bed.app_url(&ensured);
    sql::run(&url, "ALTER TABLE public.orders ADD COLUMN note text; CREATE TABLE public.later (id int)").await;
    let owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'orders'";
    assert_eq!(sql::run(&url, owner).await, "medusa_pr_app_5");
    let dev = bed.url("medusa_dev", DEV_PASSWORD, "medusa_pr_5");
    assert_eq!(sql::run(&dev, "INSERT INTO public.later VALUES (1); SELECT count(*) FROM public.orders").await, "2");
    assert_eq!(bed.delete(5).await["deleted"], true);
}

#[tokio::test]
async fn an_empty_template_is_enough_and_names_and_files_are_taken() {
    let mut bed = Bed::bare(18).await;
    let file = bed.daemon.folder().join("operator-password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("write a file");
    let names = [("DB_PREVIEW_OWNER", "Op"), ("DB_PREVIEW_DEV_ROLE", "Dev"), ("DB_TEMPLATE_NAME", "Base_1")];
    let file = file.display().to_string();
    succeeds(&bed, &[&names[..], &[("PGDB_OPERATOR_PASSWORD_FILE", file.as_str())]].concat());
    for (name, value) in bed.admin_env() {
        bed.daemon.set_env(name, &value);
    }
    for (name, value) in [("PGUSER", "Op"), ("PGPASSWORD", PASSWORD)].into_iter().chain(names) {
        bed.daemon.set_env(name, value);
    }
    bed.daemon.remember(PASSWORD);
    bed.daemon.stop().await;
    bed.daemon.up(&[]).await;
    let ensured = bed.ensure(1).await;
    assert_eq!(sql::run(&bed.app_url(&ensured), "CREATE TABLE t (id int); SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn what_is_missing_or_hostile_is_named_and_nothing_is_made() {
    let bed = Bed::bare(18).await;
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("PGDB_OPERATOR_PASSWORD", &[]),
        ("PGDB_OPERATOR_PASSWORD_FILE", &[("PGDB_OPERATOR_PASSWORD_FILE", "/nowhere/at/all")]),
        ("DB_TEMPLATE_NAME", &[("DB_TEMPLATE_NAME", "a\"; DROP DATABASE postgres; --")]),
        ("DB_PREVIEW_OWNER", &[("DB_PREVIEW_OWNER", "1op")]),
        (
            "DB_TEMPLATE_NAME",
            &[("DB_TEMPLATE_NAME", "a_name_that_is_so_long_that_its_holder_would_have_a_name_of_more")],
        ),
    ];
    for (variable, env) in cases {
        let output = run(&bed, env);
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complained.contains(variable), "{variable}: {complained}");
    }
    let made =
        "SELECT count(*) FROM pg_roles WHERE rolname IN ('zane_operator', 'medusa_dev', 'template_medusa_owner')";
    assert_eq!(bed.admin(made).await, "0");
}
