//! PostgreSQL restarts, sessions that do not leave, configuration that makes no sense.

use super::bed::{Bed, SERVER};
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::processes::postmasters_in;
use pgdb_testkit::{sql, wait};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn postgresql_may_be_killed_at_any_moment() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MAX", "2"), ("PGDB_PREVIEW_POOL_MIN", "2")]).await;
    bed.ensure(1).await;
    bed.wait_pool(&[2, 3]).await;
    // Out of the pool, cold and deletes, while the server is killed three times.
    let ensures = join_all((2..=12).map(|number| bed.ensure(number)));
    let kills = async {
        for _ in 0..3 {
            for postmaster in postmasters_in(bed.daemon.data_dir()) {
                let _ = kill(Pid::from_raw(postmaster.pid), Signal::SIGKILL);
            }
            // It runs again before it is killed again.
            sql::wait_for(&bed.admin_url("postgres")).await;
        }
    };
    let (answers, ()) = tokio::join!(ensures, kills);
    for answer in &answers {
        assert_eq!(sql::run(&bed.app_url(answer), "SELECT count(*) FROM shop.orders").await, "100");
    }
    let found = bed.daemon.get("/v1/previews/orphans").await.expect(200);
    assert_eq!(found["items"], json!([]), "nothing is left over");
    assert!(join_all((1..=12).map(|number| bed.delete(number))).await.iter().all(|gone| gone["deleted"] == true));
}

#[tokio::test]
async fn a_session_in_the_template_holds_nobody_up() {
    let bed = Bed::start().await;
    let lingering = sql::login(&bed.operator_url("template_medusa")).await.expect("it is open until it is prepared");
    bed.ensure(1).await;
    assert!(lingering.run("SELECT 1").await.is_err(), "it was ended");
    // Somebody opens it again and sits in it.
    bed.admin("ALTER DATABASE template_medusa ALLOW_CONNECTIONS true").await;
    let sitting = sql::login(&bed.admin_url("template_medusa")).await.expect("it was opened");
    let pid = sitting.run("SELECT pg_backend_pid()").await.expect("a pid").expect("a pid");
    let answer = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 2 })).await;
    // The operator may not end a superuser's session, and says whose it is.
    assert_eq!(answer.refused(503), "sessions_remain");
    assert!(answer.message().contains(&format!("pid {pid}")), "{}", answer.message());
    assert_eq!(bed.ensure(1).await["created"], false, "those that are there can be had all the same");
    drop(sitting);
    let gone = || async {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template_medusa'";
        (bed.admin(sessions).await == "0").then_some(())
    };
    wait::until(Duration::from_secs(10), "the session to leave", gone).await;
    assert_eq!(bed.ensure(2).await["created"], true);
}

#[tokio::test]
async fn an_app_that_connects_again_at_once_does_not_stop_a_delete() {
    let bed = Bed::start().await;
    let made = bed.ensure(1).await;
    let url = bed.app_url(&made);
    let stop = tokio_util::sync::CancellationToken::new();
    let reconnects = (0..20).map(|_| {
        let (url, stop) = (url.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                if let Ok(session) = sql::login(&url).await {
                    let _ = session.run("SELECT pg_sleep(60)").await;
                }
            }
        })
    });
    let reconnects: Vec<_> = reconnects.collect();
    let gone = bed.delete(1).await;
    stop.cancel();
    assert_eq!((&gone["deleted"], &gone["role_deleted"]), (&json!(true), &json!(true)));
    join_all(reconnects).await;
    assert!(!bed.leftovers().await.contains("medusa_pr_1"));
}

#[tokio::test]
async fn a_role_that_others_have_granted_rights_stays_and_is_said_to() {
    let bed = Bed::start().await;
    bed.ensure(1).await;
    bed.admin("CREATE DATABASE elsewhere").await;
    bed.admin("GRANT CONNECT ON DATABASE elsewhere TO medusa_pr_app_1").await;
    let gone = bed.delete(1).await;
    assert_eq!((&gone["deleted"], &gone["role_deleted"]), (&json!(true), &json!(false)));
    assert!(gone["role_kept_reason"].as_str().is_some_and(|reason| reason.contains("elsewhere")), "{gone:#}");
}

#[tokio::test]
async fn configuration_that_makes_no_sense_is_named_at_the_start() {
    let daemon = Daemon::prepare(env!("CARGO_BIN_EXE_pgdb"));
    for (name, value) in [
        ("DB_TEMPLATE_NAME", "x\"; DROP DATABASE postgres; --"),
        ("DB_PREVIEW_PREFIX", "pr-"),
        ("DB_PREVIEW_OWNER", "o'owner"),
        ("DB_PREVIEW_APP_USER_PREFIX", "9"),
        ("DB_PREVIEW_DEV_ROLE", " dev"),
        ("PGDB_PREVIEW_TTL", "a while"),
        ("PGDB_PREVIEW_ORPHANS", "shoot"),
        ("PGDB_PREVIEW_ON", "../x"),
        ("PGHOST", "a b"),
    ] {
        let output = daemon.fails_to_start(daemon.http_port(), &[(name, value)]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(name), "{name}: {said}");
    }
}

#[tokio::test]
async fn an_instance_whose_template_somebody_has_filled_is_used() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_pgdb")).await;
    let deployed = daemon.deploy(json!({ "name": "previews", "superuser": true })).await;
    let (url, db) = (deployed["database_url"].as_str().expect("a URL"), deployed["db"].as_str().expect("db"));
    daemon.poke("/v1/previews/-/prepare").await.expect(200);
    sql::run(url, "ALTER DATABASE template_medusa ALLOW_CONNECTIONS true").await;
    let template = url.replace(&format!("/{db}?"), "/template_medusa?");
    sql::run(&template, "CREATE SCHEMA shop; CREATE TABLE shop.t AS SELECT 1 AS n").await;
    daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
    let shown = daemon.get("/v1/previews/-/1?on=previews").await.expect(200);
    let preview = shown["database_url"].as_str().expect("a URL");
    assert_eq!(sql::run(preview, "ALTER TABLE shop.t ADD COLUMN m int; SELECT n FROM shop.t").await, "1");
}

#[tokio::test]
async fn what_the_operator_does_not_own_is_listed() {
    let bed = Bed::start().await;
    sql::run(&bed.admin_url("template_medusa"), "CREATE TABLE public.strange (id int)").await;
    let answer = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await;
    assert_eq!(answer.refused(409), "template_not_ours");
    assert!(answer.message().contains("TABLE public.strange"), "{}", answer.message());
    assert_eq!(bed.leftovers().await, "");
    bed.admin("ALTER DATABASE template_medusa RENAME TO elsewhere").await;
    let answer = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await;
    assert_eq!(answer.refused(409), "template_missing");
}

#[tokio::test]
async fn without_a_server_an_instance_is_made_at_the_first_use() {
    let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_pgdb"));
    daemon.set_env("PGDB_PREVIEW_POOL_MAX", "0");
    daemon.up(&[]).await;
    let nothing = daemon.delete("/v1/preview-db/1").await.expect(200);
    assert_eq!((&nothing["deleted"], &nothing["noop"]), (&json!(false), &json!(true)), "nothing is there to delete");
    let body = json!({ "pr_number": 1 });
    let several = join_all((0..5).map(|_| daemon.post("/v1/preview-db/ensure", &body))).await;
    let answers: Vec<_> = several.into_iter().map(|answer| answer.expect(200)).collect();
    assert_eq!(answers.iter().filter(|answer| answer["created"] == true).count(), 1);
    let shown = daemon.get("/v1/previews/-/1").await.expect(200);
    assert_eq!(shown["on"], "previews");
    let url = shown["database_url"].as_str().expect("a URL");
    assert_eq!(sql::run(url, "CREATE TABLE mine (id int); SELECT current_user").await, "medusa_pr_app_1");
    // The secret that passwords come from was made and kept: another daemon derives the same.
    daemon.crash_and_restart(&[]).await;
    let again = daemon.post("/v1/preview-db/ensure", &body).await.expect(200);
    assert_eq!(again["app_password"], answers[0]["app_password"]);
    assert_ne!(SERVER, "previews");
}

#[tokio::test]
async fn without_a_server_a_template_can_be_built_first() {
    let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_pgdb"));
    daemon.set_env("PGDB_PREVIEW_POOL_MAX", "0");
    daemon.up(&[]).await;
    let files = json!({ "files": [{ "name": "1.sql", "sql": "CREATE TABLE public.built AS SELECT 7 AS n" }] });
    daemon.post("/v1/templates/template_medusa/build", &files).await.expect(200);
    daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
    let shown = daemon.get("/v1/previews/-/1").await.expect(200);
    assert_eq!(sql::run(shown["database_url"].as_str().expect("a URL"), "SELECT n FROM built").await, "7");
}

#[tokio::test]
async fn a_delete_that_failed_goes_on_when_what_held_it_is_gone() {
    let bed = Bed::start().await;
    bed.ensure(1).await;
    let held = sql::login(&bed.admin_url("medusa_pr_1")).await.expect("a superuser's session");
    assert_eq!(bed.daemon.delete("/v1/preview-db/1").await.refused(503), "sessions_remain");
    assert_eq!(bed.daemon.get("/v1/previews/-/1").await.expect(200)["state"], "deleting");
    drop(held);
    let gone = || async { bed.leftovers().await.is_empty().then_some(()) };
    wait::until(Duration::from_secs(30), "the delete to go on", gone).await;
    let forgotten = || async { (bed.daemon.get("/v1/previews/-/1").await.status == 404).then_some(()) };
    wait::until(Duration::from_secs(30), "the record to go", forgotten).await;
}

#[tokio::test]
async fn what_an_operation_left_half_done_is_settled() {
    let mut bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.ensure(1).await;
    let entry = bed.wait_pool(&[2]).await["entries"][0].as_str().expect("a name").to_owned();
    bed.daemon.stop().await;
    // As it stands when neither an ensure nor its undo could be brought to an end.
    let state = rusqlite::Connection::open(bed.daemon.state_file()).expect("open the state file");
    let broken =
        "UPDATE previews SET state = 'creating'; UPDATE preview_pool SET state = 'taken', taken_by = 'medusa_pr_1'";
    state.execute_batch(broken).expect("changed");
    drop(state);
    bed.daemon.up(&[]).await;
    let shown = || async {
        let preview = bed.daemon.get("/v1/previews/-/1").await.expect(200);
        (preview["state"] == "broken").then_some(())
    };
    wait::until(Duration::from_secs(30), "the preview to be known as broken", shown).await;
    let pool = bed.wait_pool(&[2]).await;
    assert_ne!(pool["entries"][0], entry.as_str(), "an entry that nobody took was not handed out again");
    assert!(!bed.leftovers().await.contains(&entry));
    assert_eq!(bed.ensure(1).await["created"], false);
    assert_eq!(bed.daemon.get("/v1/previews/-/1").await.expect(200)["state"], "ready");
}

#[tokio::test]
async fn what_cannot_be_removed_is_not_tried_over_and_over() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.ensure(1).await;
    bed.wait_pool(&[2]).await;
    bed.daemon.poke(&format!("/v1/db/{SERVER}/stop")).await.expect(200);
    // Another template: the entry has to go, and cannot.
    let state = rusqlite::Connection::open(bed.daemon.state_file()).expect("open the state file");
    state.execute_batch("UPDATE preview_templates SET generation = generation + 1").expect("changed");
    drop(state);
    let failed = || async {
        let page = bed.daemon.get("/v1/operations?kind=preview.pool_drop&state=failed").await.expect(200);
        (!page["items"].as_array().expect("items").is_empty()).then_some(())
    };
    wait::until(Duration::from_secs(90), "a drop to fail", failed).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let page = bed.daemon.get("/v1/operations?kind=preview.pool_drop").await.expect(200);
    assert_eq!(page["items"].as_array().expect("items").len(), 1, "{page:#}");
    bed.daemon.poke(&format!("/v1/db/{SERVER}/start")).await.expect(200);
    bed.wait_pool(&[2]).await;
}
