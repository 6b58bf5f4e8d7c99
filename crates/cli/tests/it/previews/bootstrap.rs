//! A server that nobody has prepared, made fit with an administrator's rights.

use super::bed::Bed;
use pgdb_testkit::sql;
use serde_json::{Value, json};

const PATH: &str = "/v1/previews/bootstrap";

async fn findings(bed: &Bed) -> Vec<Value> {
    let report = bed.daemon.get("/v1/doctor").await.expect(200);
    let findings = report["findings"].as_array().expect("findings").clone();
    findings.into_iter().filter(|finding| finding["check"] == "previews").collect()
}

async fn bootstrap(bed: &Bed) -> Vec<String> {
    let done = bed.daemon.post(PATH, &json!({ "admin_url": bed.admin_url("postgres") })).await.expect(200);
    let changed = done["changed"].as_array().expect("a list");
    changed.iter().map(|line| line.as_str().expect("a sentence").to_owned()).collect()
}

async fn check(major: u16) {
    let bed = Bed::bare(major).await.told(&[]).await;
    // Somebody has filled the template as a superuser.
    bed.admin("CREATE DATABASE template_medusa").await;
    sql::run(
        &bed.admin_url("template_medusa"),
        "CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT 1 AS id; CREATE EXTENSION pgcrypto; \
         CREATE TABLE public.note AS SELECT 'x' AS text",
    )
    .await;
    assert_eq!(bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.status, 502);
    let before = findings(&bed).await;
    assert!(before.iter().all(|finding| finding["level"] == "problem") && !before.is_empty(), "{before:?}");

    let changed = bootstrap(&bed).await;
    assert!(changed.iter().any(|line| line.contains("the operator 'zane_operator' was made")), "{changed:?}");
    assert!(changed.iter().any(|line| line.contains("objects of the template were given")), "{changed:?}");
    assert_eq!(bootstrap(&bed).await, Vec::<String>::new(), "once more changes nothing");
    assert_eq!(findings(&bed).await[0]["level"], "ok");
    let dev = "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = 'medusa_dev'";
    assert_eq!(bed.admin(dev).await, "true");
    let app = bed.app_url(&bed.ensure(1).await);
    sql::run(&app, "ALTER TABLE shop.orders ADD COLUMN more text; ALTER TABLE public.note RENAME TO notes").await;
    assert_eq!(bed.delete(1).await["role_deleted"], true);

    // What was taken from the operator is named with the SQL that gives it back, and given back.
    bed.admin("ALTER ROLE zane_operator NOCREATEDB PASSWORD 'other'; REVOKE pg_signal_backend FROM zane_operator")
        .await;
    bed.admin("CREATE ROLE medusa_pr_app_9").await;
    let answer = bed.daemon.post(PATH, &json!({ "admin_url": bed.admin_url("postgres") })).await.expect(200);
    let told = answer["changed"].to_string();
    for word in ["the password of the operator", "CREATEDB", "pg_signal_backend"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(told.contains("medusa_pr_app_9"), major >= 16, "{told}");
    bed.ensure(9).await;
    assert_eq!(bed.delete(9).await["role_deleted"], true, "also of a role that it had not made");
    let secret = sql_password(&bed.admin_url("postgres"));
    assert!(!bed.daemon.log().contains(&secret), "the administrator's password is in the log");
}

#[tokio::test]
async fn another_server_than_the_configured_one_is_left_alone() {
    let bed = Bed::bare(18).await.told(&[]).await;
    let other = bed.daemon.deploy(json!({ "name": "other", "superuser": true, "version": 18 })).await;
    let other = other["database_url"].as_str().expect("a URL");
    bed.daemon.remember(&sql_password(other));
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    let before = sql::run(other, databases).await;
    let refused = bed.daemon.post(PATH, &json!({ "admin_url": other })).await;
    assert_eq!(refused.refused(409), "preview_bootstrap_other_server", "{}", refused.message());
    assert_eq!(sql::run(other, databases).await, before);
    assert_eq!(sql::run(other, "SELECT count(*) FROM pg_roles WHERE rolname = 'zane_operator'").await, "0");
    // The same server under another name is the same server.
    let renamed = bed.admin_url("postgres").replace("127.0.0.1", "localhost");
    bed.daemon.post(PATH, &json!({ "admin_url": renamed })).await.expect(200);
}

fn sql_password(url: &str) -> String {
    let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("a user").0;
    user.split_once(':').expect("a password").1.to_owned()
}

#[tokio::test]
async fn a_bare_server_is_made_fit_on_15() {
    check(15).await;
}

#[tokio::test]
async fn a_bare_server_is_made_fit_on_18() {
    check(18).await;
}

#[tokio::test]
async fn a_wrong_administrator_is_told_and_nothing_is_shown() {
    let bed = Bed::bare(18).await.told(&[]).await;
    let nonsense = bed.daemon.post(PATH, &json!({ "admin_url": "hunter2" })).await;
    assert_eq!(nonsense.refused(400), "invalid_value");
    let socket = bed.daemon.post(PATH, &json!({ "admin_url": "postgres://postgres@%2Ftmp/postgres" })).await;
    assert_eq!(socket.refused(400), "invalid_value");
    let wrong = bed.url("nobody", "hunter2", "postgres");
    let refused = bed.daemon.post(PATH, &json!({ "admin_url": wrong })).await;
    assert_eq!(refused.refused(502), "postgres_failed");
    for text in [nonsense.message(), refused.message(), &bed.daemon.log()] {
        assert!(!text.contains("hunter2"));
    }
}
