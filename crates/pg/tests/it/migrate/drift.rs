//! Schemas as text, and scratch databases that leave nothing behind.

use super::{Bed, on_both};
use crate::server::{ADMIN, PATIENCE, Server, one};
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_pg::migrate::check::{CheckError, DriftReport, check};
use pgdb_pg::migrate::drift::compare;
use pgdb_pg::migrate::dump::{DumpError, PgDump};
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::scratch::Scratch;
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Client, PgError};
use std::path::PathBuf;

const SCHEMA: &str = "CREATE SCHEMA shop;
    CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, day date NOT NULL);
    CREATE INDEX by_day ON shop.orders (day);
    CREATE VIEW shop.latest AS SELECT id FROM shop.orders ORDER BY id DESC LIMIT 10;
    CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT 2 * n $$";

pub(super) fn login(server: &Server) -> Login {
    Login {
        target: server.socket(),
        user: ADMIN.to_owned(),
        password: None,
        db: "postgres".to_owned(),
        timeout: PATIENCE,
    }
}

pub(super) async fn pg_dump(client: &Client) -> PgDump {
    let engines = std::env::var_os("PGDB_ENGINES_DIR").map(PathBuf::from);
    PgDump::find(engines.as_deref(), std::env::var_os("PATH").as_deref(), client.major()).await.expect("a pg_dump")
}

pub(super) async fn made(client: &Client) -> Result<Scratch, PgError> {
    Scratch::take_turn(client).await?;
    Scratch::make(client).await
}

pub(super) async fn scratches(client: &Client) -> String {
    one(client, "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'pgdb\\_drift\\_%'").await
}

on_both!(the_same_schema_is_the_same_text_and_a_change_is_told);
async fn the_same_schema_is_the_same_text_and_a_change_is_told(bed: &Bed) {
    let server = &bed.server;
    let target = server.admin("postgres").await;
    target.batch("set", "ALTER DATABASE postgres SET search_path = shop, \"$user\", public").await.expect("set");
    target.batch("fill", SCHEMA).await.expect("filled");
    target
        .batch("fill", "CREATE SCHEMA pgdb; CREATE TABLE pgdb.migrations (); CREATE TABLE _sqlx_migrations ()")
        .await
        .expect("filled");
    let scratch = made(&target).await.expect("made");
    let inside = server.admin(scratch.name()).await;
    assert_eq!(one(&inside, "SELECT current_setting('search_path')").await, "shop, \"$user\", public");
    inside.batch("fill", SCHEMA).await.expect("filled");
    inside.close().await;

    let (dump, login) = (pg_dump(&target).await, login(server));
    let have = dump.schema(&login, "postgres").await.expect("dumped");
    assert_eq!(dump.schema(&login, "postgres").await.expect("dumped"), have, "the second dump");
    assert!(have.contains("CREATE TABLE shop.orders") && !have.contains("migrations"), "{have}");
    let want = dump.schema(&login, scratch.name()).await.expect("dumped");
    assert_eq!(compare(&have, &want), []);
    assert_eq!(have, want, "not only its objects");

    target
        .batch("change", "ALTER TABLE shop.orders ADD note text; DROP INDEX shop.by_day; CREATE TABLE shop.hand ()")
        .await
        .expect("changed");
    let have = dump.schema(&login, "postgres").await.expect("dumped");
    let told: Vec<String> = compare(&have, &want).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["missing: INDEX shop.by_day", "added: TABLE shop.hand", "different: TABLE shop.orders"]);
    scratch.remove(&target).await.expect("dropped");
    assert_eq!(scratches(&target).await, "0");
}

on_both!(what_a_killed_check_left_is_dropped_by_the_next);
async fn what_a_killed_check_left_is_dropped_by_the_next(bed: &Bed) {
    let server = &bed.server;
    let first = server.admin("postgres").await;
    let left = made(&first).await.expect("made").name().to_owned();
    let inside = server.admin(&left).await;
    inside.batch("fill", "CREATE TABLE old ()").await.expect("filled");
    let pid = one(&first, "SELECT pg_backend_pid()::text").await;

    // The other waits until the first one's session ends, as it does when its program is killed.
    let second = server.admin("postgres").await;
    let waiting = tokio::spawn(async move {
        let scratch = made(&second).await.expect("made");
        (scratch, second)
    });
    let admin = server.admin("postgres").await;
    let asked =
        "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%' AND pid <> ";
    while one(&admin, &format!("{asked}{pid}")).await == "0" {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    admin.batch("kill", &format!("SELECT pg_terminate_backend({pid})")).await.expect("killed");
    let (scratch, second) = waiting.await.expect("it goes on");
    assert_eq!(scratch.name(), left);
    let fresh = server.admin(scratch.name()).await;
    assert_eq!(one(&fresh, "SELECT (to_regclass('old') IS NULL)::text").await, "true");
    assert!(inside.batch("ask", "SELECT 1").await.is_err(), "the old one is gone with its sessions");
    fresh.close().await;
    scratch.remove(&second).await.expect("dropped");
    assert_eq!(scratches(&second).await, "0");
}

on_both!(somebody_elses_database_is_never_dropped);
async fn somebody_elses_database_is_never_dropped(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    let name = made(&admin).await.expect("made");
    let taken = name.name().to_owned();
    name.remove(&admin).await.expect("dropped");
    admin.batch("take the name", &format!("CREATE DATABASE {taken}")).await.expect("made");
    admin.batch("mark it", &format!("COMMENT ON DATABASE {taken} IS 'mine'")).await.expect("marked");
    let refused = made(&admin).await.expect_err("it is somebody's");
    assert!(matches!(&refused, PgError::InTheWay { name, .. } if *name == taken), "{refused}");
    assert_eq!(scratches(&admin).await, "1");
    // The lock has been let go of.
    assert_eq!(one(&admin, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'").await, "0");
}

on_both!(a_role_that_may_make_databases_is_enough);
async fn a_role_that_may_make_databases_is_enough(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    admin.batch("make a role", "CREATE ROLE dev LOGIN CREATEDB").await.expect("made");
    admin.batch("make a database", "CREATE DATABASE theirs").await.expect("made");
    let dev = pgdb_pg::connect(&server.socket(), "dev", None, "theirs", PATIENCE).await.expect("in");
    let scratch = made(&dev).await.expect("made, with an owner of its own");
    let owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname LIKE 'pgdb\\_drift\\_%'";
    assert_eq!(one(&admin, owner).await, "dev");
    scratch.remove(&dev).await.expect("dropped");

    admin.batch("take the right", "ALTER ROLE dev NOCREATEDB").await.expect("taken");
    let refused = made(&dev).await.expect_err("no right");
    assert_eq!(refused.sqlstate(), Some("42501"));
    assert_eq!(scratches(&admin).await, "0");
}

#[tokio::test]
async fn without_a_program_that_is_new_enough_it_says_so() {
    let missing = PgDump::find(None, None, 99).await.expect_err("there is no such version");
    assert!(matches!(missing, DumpError::Missing { wanted: 99, .. }), "{missing}");
    assert!(missing.to_string().starts_with("no pg_dump of version 99 or newer is here"), "{missing}");
}

pub(super) fn files(texts: &[(&str, &str)]) -> Vec<File> {
    texts.iter().map(|(key, text)| File::new(Key::parse(key).expect(key), text.as_bytes().to_vec())).collect()
}

const FILES: [(&str, &str); 3] = [
    ("shop/001_orders.sql", "CREATE SCHEMA shop;\nCREATE TABLE shop.orders (id bigint PRIMARY KEY);\n"),
    ("shop/002_by_id.sql", "-- pgdb: no-transaction\nCREATE INDEX CONCURRENTLY by_id ON shop.orders (id);\n"),
    ("shop/R__latest.sql", "CREATE OR REPLACE VIEW shop.latest AS SELECT max(id) FROM shop.orders;\n"),
];

pub(super) async fn checked(server: &Server, files: &[File]) -> Result<DriftReport, CheckError> {
    let admin = server.admin("postgres").await;
    let (login, options, dump) = (login(server), Options::new("test"), pg_dump(&admin).await);
    let report = check(&login, files, &options, &dump, std::future::pending()).await;
    assert_eq!(scratches(&admin).await, "0", "whatever came of it");
    report
}

on_both!(a_database_that_only_files_have_changed_has_no_drift);
async fn a_database_that_only_files_have_changed_has_no_drift(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    let mut files = files(&FILES);
    let later = |sql: &str| File::new(Key::parse("shop/004_later.sql").expect("a key"), sql.as_bytes().to_vec());
    files.push(later("-- as `pgdb migrate new` makes it\n"));
    assert!(matches!(checked(server, &files).await, Err(CheckError::NoLedger)));
    let mut session = Session::open(&login(server)).await.expect("in");
    let ran = run(&mut session, &files, &Options::new("test"), &mut |_| {}).await.expect("run");
    assert!(ran.is_complete(), "{ran:?}");
    session.close().await;
    let report = checked(server, &files).await.expect("checked");
    assert_eq!((report.drifts, report.not_run, report.without_file), (vec![], vec![], vec![]));

    // What is pending is no drift; what was done by hand is.
    *files.last_mut().expect("the last one") = later("CREATE TABLE shop.later ();");
    files.push(File::new(Key::parse("shop/003_more.sql").expect("a key"), b"CREATE TABLE shop.more ();".to_vec()));
    admin.batch("by hand", "ALTER TABLE shop.orders ADD note text").await.expect("changed");
    let report = checked(server, &files).await.expect("checked");
    let told: Vec<String> = report.drifts.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["different: TABLE shop.orders"]);
    let pending = ["shop/004_later.sql", "shop/003_more.sql"].map(str::to_owned).to_vec();
    assert_eq!((report.not_run, report.pending), (pending.clone(), pending));
    let report = checked(server, &files[1..]).await;
    assert!(
        matches!(&report, Err(CheckError::FileFailed(failure)) if failure.key == "shop/002_by_id.sql"),
        "{report:?}"
    );
}

on_both!(an_interrupted_check_leaves_nothing);
async fn an_interrupted_check_leaves_nothing(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    let files = files(&[("a/1.sql", "SELECT CASE WHEN current_database() <> 'postgres' THEN pg_sleep(60) END")]);
    let mut session = Session::open(&login(server)).await.expect("in");
    run(&mut session, &files, &Options::new("test"), &mut |_| {}).await.expect("run");
    session.close().await;
    let dump = pg_dump(&admin).await;
    let sleeping = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let interrupted = async {
        while one(&admin, sleeping).await == "0" {
            tokio::task::yield_now().await;
        }
    };
    let report = check(&login(server), &files, &Options::new("test"), &dump, interrupted).await;
    assert!(matches!(report, Err(CheckError::Interrupted)), "{report:?}");
    assert_eq!(scratches(&admin).await, "0");
}
