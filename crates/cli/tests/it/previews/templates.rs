//! Templates that are made anew: from a source, a dump, or files.

use super::bed::Bed;
use pgdb_testkit::api::Body;
use pgdb_testkit::sql;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/v1/templates/template_medusa";

/// What a source holds.
const SOURCE: &str = "
    CREATE SCHEMA crm;
    CREATE TABLE crm.person (id integer PRIMARY KEY, email text);
    INSERT INTO crm.person SELECT n, 'person' || n || '@real.example' FROM generate_series(1, 500) n;
    CREATE TABLE crm.audit AS SELECT n FROM generate_series(1, 1000) n;
    CREATE VIEW crm.everybody AS SELECT * FROM crm.person;
    CREATE FUNCTION crm.twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n';
    CREATE EXTENSION pgcrypto SCHEMA crm;
    COMMENT ON TABLE crm.person IS 'people';
";

/// A database to refresh from, as a URL.
async fn source(bed: &Bed, more: &str) -> String {
    let deployed = bed.daemon.deploy(json!({ "name": "source", "superuser": true })).await;
    let url = deployed["database_url"].as_str().expect("a URL").to_owned();
    sql::run(&url, SOURCE).await;
    if !more.is_empty() {
        sql::run(&url, more).await;
    }
    url
}

/// Databases that belong to templates, and their owners.
async fn databases(bed: &Bed) -> String {
    bed.admin(
        "SELECT string_agg(datname || ' of ' || pg_get_userbyid(datdba) || CASE WHEN datallowconn THEN ', open' ELSE '' END, \
         '; ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'template\\_medusa%'",
    )
    .await
}

fn scratch_is_empty(bed: &Bed) {
    for folder in ["scratch", "spool"] {
        let found = std::fs::read_dir(bed.daemon.data_dir().join(folder));
        assert_eq!(found.into_iter().flatten().count(), 0, "{folder} holds something");
    }
}

#[tokio::test]
async fn a_refresh_reads_masks_checks_and_swaps_and_there_is_a_way_back() {
    let bed = Bed::start().await;
    let url = source(&bed, "").await;
    let before = bed.ensure(1).await;
    let wanted = json!({
        "source_url": url,
        "exclude_table_data": ["crm.audit"],
        "mask": "UPDATE crm.person SET email = id || '@example.invalid'; DELETE FROM crm.person WHERE id > 400",
        "checks": ["SELECT count(*) = 400 FROM crm.person", "SELECT count(*) FROM crm.person WHERE email LIKE '%invalid'"],
        "jobs": 2,
    });
    let defined = bed.daemon.send(Method::PUT, PATH, Body::Json(wanted)).await.expect(200);
    assert!(!defined["source"].as_str().expect("a source").contains(password(&url)), "{defined}");
    let made = bed.daemon.poke(&format!("{PATH}/refresh")).await.expect(200);
    assert_eq!((&made["exists"], &made["has_previous"], &made["open"]), (&json!(true), &json!(true), &json!(false)));
    assert_eq!(databases(&bed).await, "template_medusa of zane_operator; template_medusa_previous of zane_operator");
    scratch_is_empty(&bed);

    let preview = bed.ensure(2).await;
    let app = bed.app_url(&preview);
    assert_eq!(sql::run(&app, "SELECT count(*) || ' ' || max(email) FROM crm.person").await, "400 9@example.invalid");
    assert_eq!(sql::run(&app, "SELECT count(*) FROM crm.audit").await, "0", "its rows were left out");
    sql::run(
        &app,
        "ALTER TABLE crm.person ADD COLUMN more text; DROP VIEW crm.everybody; CREATE TABLE crm.mine (n int)",
    )
    .await;
    // What was cloned before is as it was.
    assert_eq!(sql::run(&bed.app_url(&before), "SELECT count(*) FROM shop.orders").await, "100");

    let back = bed.daemon.poke(&format!("{PATH}/rollback")).await.expect(200);
    assert_eq!(back["has_previous"], true);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(3).await), "SELECT count(*) FROM shop.orders").await, "100");
    bed.daemon.poke(&format!("{PATH}/rollback")).await.expect(200);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(4).await), "SELECT count(*) FROM crm.person").await, "400");
    // Once more over itself: the oldest one goes.
    bed.daemon.poke(&format!("{PATH}/refresh")).await.expect(200);
    assert_eq!(databases(&bed).await, "template_medusa of zane_operator; template_medusa_previous of zane_operator");
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(5).await), "SELECT count(*) FROM crm.person").await, "400");
}

fn password(url: &str) -> &str {
    url.split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'))
        .and_then(|(user, _)| user.split_once(':'))
        .expect("one")
        .1
}

#[tokio::test]
async fn what_does_not_hold_or_cannot_be_had_leaves_the_template_as_it_is() {
    let bed = Bed::start().await;
    let url = source(&bed, "").await;
    bed.ensure(1).await;
    let refused = async |definition: Value, status: u16, code: &str, says: &str| {
        bed.daemon.send(Method::PUT, PATH, Body::Json(definition)).await.expect(200);
        let answer = bed.daemon.poke(&format!("{PATH}/refresh")).await;
        assert_eq!(answer.refused(status), code, "{}", answer.message());
        assert!(answer.message().contains(says), "{}", answer.message());
        assert_eq!(databases(&bed).await, "template_medusa of zane_operator");
        scratch_is_empty(&bed);
        assert_eq!(sql::run(&bed.app_url(&bed.ensure(1).await), "SELECT count(*) FROM shop.orders").await, "100");
    };
    let check = json!({ "source_url": url, "checks": ["SELECT true", "SELECT count(*) > 1000 FROM crm.person"] });
    refused(check, 409, "template_check_failed", "check 2 of 2 did not hold (gave f)").await;
    let mask = json!({ "checks": [], "mask": "UPDATE crm.person SET mail = ''" });
    refused(mask, 400, "template_script_failed", "mask: ").await;
    let wrong = json!({ "mask": "SELECT 1", "source_url": url.replace(password(&url), "wrong") });
    refused(wrong, 502, "postgres_failed", "refused the login").await;

    for (body, says) in [
        (json!({ "source_url": "nonsense" }), "source_url: "),
        // The daemon's account would be let in without a password.
        (json!({ "source_url": "postgres://pgdb_admin@%2Fvar%2Frun%2Fpostgresql/postgres" }), "source_url: a socket"),
        (json!({ "admin_url": "postgres://postgres@%2Ftmp/postgres" }), "admin_url: a socket"),
        (json!({ "jobs": 0 }), "jobs: "),
        (json!({ "checks": [" "] }), "checks: "),
    ] {
        let answer = bed.daemon.send(Method::PUT, PATH, Body::Json(body)).await;
        assert_eq!(answer.refused(400), "invalid_value");
        assert!(answer.message().starts_with(says), "{}", answer.message());
    }
    for name in ["postgres", "medusa_pr_1", "a b", "a\"b", &"x".repeat(50)] {
        let path = format!("/v1/templates/{}/refresh", name.replace(' ', "%20").replace('"', "%22"));
        assert_eq!(bed.daemon.poke(&path).await.refused(400), "invalid_name", "{name}");
    }
    let missing = bed.daemon.poke("/v1/templates/template_other/refresh").await;
    assert_eq!(missing.refused(409), "template_source_missing");
    assert_eq!(bed.daemon.poke(&format!("{PATH}/rollback")).await.refused(409), "template_previous_missing");
    bed.daemon.poke(&format!("{PATH}/lock")).await.expect(200);
    assert_eq!(bed.daemon.poke(&format!("{PATH}/refresh")).await.refused(423), "protected");
    bed.daemon.poke(&format!("{PATH}/unlock")).await.expect(200);
}

#[tokio::test]
async fn a_dump_is_read_and_an_extension_of_superusers_needs_one() {
    let bed = Bed::start().await;
    source(&bed, "CREATE EXTENSION file_fdw; COMMENT ON EXTENSION file_fdw IS 'ours'").await;
    let dump = bed.daemon.get("/v1/db/source/dump").await.bytes;
    let upload = format!("{PATH}/refresh/dump");
    let answer = bed.daemon.send(Method::POST, &upload, Body::Bytes(dump.clone())).await;
    assert_eq!(answer.refused(409), "template_extension_untrusted");
    assert!(answer.message().contains("file_fdw") && !answer.message().contains("pgcrypto"), "{}", answer.message());
    scratch_is_empty(&bed);
    let admin = json!({ "admin_url": bed.admin_url("postgres") });
    bed.daemon.send(Method::PUT, PATH, Body::Json(admin)).await.expect(200);
    bed.daemon.send(Method::POST, &upload, Body::Bytes(dump)).await.expect(200);
    let app = bed.app_url(&bed.ensure(1).await);
    assert_eq!(sql::run(&app, "SELECT count(*) FROM crm.person").await, "500");
    assert_eq!(
        sql::run(&app, "SELECT count(*) FROM pg_extension WHERE extname IN ('file_fdw', 'pgcrypto')").await,
        "2"
    );
    scratch_is_empty(&bed);
    let garbage = bed.daemon.send(Method::POST, &upload, Body::Bytes(b"PGDMPgarbage".to_vec())).await;
    assert_eq!(garbage.refused(400), "invalid_dump");
    scratch_is_empty(&bed);
}

#[tokio::test]
async fn a_template_is_built_from_files_once() {
    let bed = Bed::start().await;
    let build = |seed: &str| {
        json!({ "seed": { "name": "seed.sql", "sql": seed }, "files": [
            { "name": "~é.sql", "sql": "CREATE TABLE app.last (n integer)" },
            { "name": "app/002_more.sql", "sql": "ALTER TABLE app.t ADD COLUMN more text DEFAULT 'x'" },
            { "name": "app/001_tables.sql", "sql": "CREATE SCHEMA app; CREATE TABLE app.t (n integer)" },
        ] })
    };
    let path = format!("{PATH}/build");
    let made = bed
        .daemon
        .post(&path, &build("INSERT INTO app.t SELECT generate_series(1, 7); DROP TABLE app.last"))
        .await
        .expect(200);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(1).await), "SELECT count(*) || max(more) FROM app.t").await, "7x");
    assert!(made.get("unchanged").is_none(), "{made}");
    let seven = build("INSERT INTO app.t SELECT generate_series(1, 7); DROP TABLE app.last");
    let again = bed.daemon.post(&path, &seven).await.expect(200);
    assert_eq!((&again["generation"], &again["built_from"]), (&made["generation"], &made["built_from"]));
    assert_eq!(again["unchanged"], true);
    let other = bed.daemon.post(&path, &build("INSERT INTO app.t SELECT generate_series(1, 8)")).await.expect(200);
    assert_ne!(other["generation"], made["generation"]);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(2).await), "SELECT count(*) FROM app.t").await, "8");

    // What was built last is not what is there after a rollback.
    bed.daemon.poke(&format!("{PATH}/rollback")).await.expect(200);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(4).await), "SELECT count(*) FROM app.t").await, "7");
    bed.daemon.post(&path, &build("INSERT INTO app.t SELECT generate_series(1, 8)")).await.expect(200);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(5).await), "SELECT count(*) FROM app.t").await, "8");

    let broken = bed.daemon.post(&path, &build("INSERT INTO app.nothing SELECT 1")).await;
    assert_eq!(broken.refused(400), "template_script_failed");
    assert!(broken.message().starts_with("seed.sql: "), "{}", broken.message());
    for ends in
        ["COMMIT; SELECT 1", "INSERT INTO app.t SELECT 1; COMMIT; BEGIN; SELECT 1", "BEGIN; COMMIT;", "ROLLBACK"]
    {
        let answer = bed.daemon.post(&path, &build(ends)).await;
        assert_eq!(answer.refused(400), "template_script_failed", "{ends}");
        assert!(answer.message().contains("seed.sql: it ends the transaction"), "{}", answer.message());
    }
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(3).await), "SELECT count(*) FROM app.t").await, "8");
    let twice = json!({ "files": [{ "name": "a", "sql": "" }, { "name": "a", "sql": "" }] });
    assert_eq!(bed.daemon.post(&path, &twice).await.refused(400), "invalid_value");
    // More than other routes take.
    let large = format!("INSERT INTO app.t SELECT 1 -- {}", "x".repeat(3 << 20));
    bed.daemon.post(&path, &build(&large)).await.expect(200);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(6).await), "SELECT count(*) FROM app.t").await, "1");
    let larger = build(&"x".repeat(65 << 20));
    let answer = bed.daemon.try_send(Method::POST, &path, Body::Json(larger)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.refused(413) == "body_too_large"));
}
