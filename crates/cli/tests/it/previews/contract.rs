//! The seed's HTTP contract, to the letter.

use super::bed::{APP_SECRET, Bed};
use pgdb_testkit::sql;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_preview_is_made_found_again_and_removed() {
    let bed = Bed::start().await;
    let first = bed.ensure(123).await;
    let fields: Vec<&String> = first.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["app_password", "app_user", "created", "db_name"]);
    assert_eq!(
        (first["db_name"].as_str(), first["app_user"].as_str()),
        (Some("medusa_pr_123"), Some("medusa_pr_app_123"))
    );
    assert_eq!(first["created"], true);
    assert!(first["app_password"].as_str().expect("a password").starts_with("za_"));
    let url = bed.app_url(&first);
    assert_eq!(sql::run(&url, "SELECT count(*) FROM shop.orders").await, "100");
    sql::run(&url, "ALTER TABLE shop.orders ADD COLUMN more text; CREATE SCHEMA mine; CREATE TABLE mine.t (id int)")
        .await;

    // A number as digits is the same number; what the app has made is still there.
    let again = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": "123" })).await.expect(200);
    assert_eq!((&again["app_password"], &again["created"]), (&first["app_password"], &json!(false)));
    assert_eq!(sql::run(&url, "SELECT count(*) FROM mine.t").await, "0");

    let gone = bed.delete(123).await;
    assert_eq!(
        gone,
        json!({
            "db_name": "medusa_pr_123", "deleted": true, "app_user": "medusa_pr_app_123", "role_deleted": true
        })
    );
    assert_eq!(bed.leftovers().await, "");
    let nothing = bed.delete(123).await;
    assert_eq!(
        (&nothing["deleted"], &nothing["role_deleted"], &nothing["noop"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!(bed.ensure(123).await["created"], true, "a new one is created anew");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let bed = Bed::start().await;
    let refused = async |body: serde_json::Value| {
        let answer = bed.daemon.post("/v1/preview-db/ensure", &body).await;
        (answer.refused(400).to_owned(), answer.message().to_owned())
    };
    for field in ["template_db", "owner"] {
        let (code, message) = refused(json!({ "pr_number": 1, field: "other" })).await;
        assert_eq!(code, "field_disabled");
        assert!(message.contains(field), "{message}");
    }
    for number in [json!(0), json!(-4), json!("x"), json!(1.5), json!(null), json!([1]), json!("1; DROP DATABASE x")] {
        assert_eq!(refused(json!({ "pr_number": number })).await.0, "invalid_pr_number", "{number}");
    }
    assert_eq!(refused(json!({ "pr_number": 1, "colour": "red" })).await.0, "invalid_json");
    assert_eq!(refused(json!({})).await.0, "invalid_json");
    assert_eq!(refused(json!({ "pr_number": 1, "ttl": "soon" })).await.0, "invalid_value");
    for number in ["0", "abc", "-1", "1e3"] {
        let answer = bed.daemon.delete(&format!("/v1/preview-db/{number}")).await;
        assert_eq!(answer.refused(400), "invalid_pr_number", "{number}");
    }
    assert_eq!(bed.leftovers().await, "");
}

#[tokio::test]
async fn the_seeds_token_is_enough_and_the_password_is_the_originals() {
    // The seed has no other token, and derives from it where no secret is given.
    let token = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let bed = Bed::start_with(&[("API_AUTH_TOKEN", token), ("DB_PREVIEW_APP_PASSWORD_SECRET", "")]).await;
    let ci = bed.daemon.with_token(token);
    let answer = ci.post("/v1/preview-db/ensure", &json!({ "pr_number": 7 })).await.expect(200);
    let secret = token.into();
    let derived = pgdb_core::preview::derive_password(&secret, "medusa_pr_7", "medusa_pr_app_7");
    assert_eq!(answer["app_password"], secrecy::ExposeSecret::expose_secret(&derived));
    assert_eq!(sql::run(&bed.app_url(&answer), "SELECT current_user").await, "medusa_pr_app_7");
    ci.get("/v1/status").await.refused(403);
    let open = bed.daemon.with_token("").try_send(Method::GET, "/healthz", pgdb_testkit::api::Body::None).await;
    assert_eq!(open.expect("answered").expect(200), json!({ "ok": true }));
    assert_ne!(APP_SECRET, token);
}

#[tokio::test]
async fn a_password_that_works_is_never_reset_and_one_that_does_not_is() {
    let bed = Bed::start().await;
    let first = bed.ensure(1).await;
    let open = sql::login(&bed.app_url(&first)).await.expect("a session");
    bed.admin("ALTER ROLE medusa_pr_app_1 PASSWORD 'something else'").await;
    assert!(sql::login(&bed.app_url(&first)).await.is_err());
    let mended = bed.ensure(1).await;
    assert_eq!((&mended["app_password"], &mended["created"]), (&first["app_password"], &json!(false)));
    assert_eq!(sql::run(&bed.app_url(&mended), "SELECT 1").await, "1");
    assert_eq!(open.run("SELECT 1").await.expect("it goes on").as_deref(), Some("1"), "open sessions are left alone");
    // Set by somebody else to what it is anyway: its verifier is another one, and it works.
    let password = first["app_password"].as_str().expect("a password");
    bed.admin(&format!("ALTER ROLE medusa_pr_app_1 PASSWORD '{password}'")).await;
    let salted = bed.admin("SELECT rolpassword FROM pg_authid WHERE rolname = 'medusa_pr_app_1'").await;
    bed.ensure(1).await;
    let after = bed.admin("SELECT rolpassword FROM pg_authid WHERE rolname = 'medusa_pr_app_1'").await;
    assert_eq!(salted, after, "a password that works was set again");
}

#[tokio::test]
async fn over_tls_a_changed_password_is_seen_and_certificates_are_believed_as_libpq_does() {
    let mut bed = Bed::start_encrypted(&[("PGSSLMODE", "require")]).await;
    let first = bed.ensure(1).await;
    bed.admin("ALTER ROLE medusa_pr_app_1 PASSWORD 'zzz'").await;
    assert!(sql::login(&bed.app_url(&first)).await.is_err());
    let mended = bed.ensure(1).await;
    assert_eq!((&mended["app_password"], &mended["created"]), (&first["app_password"], &json!(false)));
    assert_eq!(sql::run(&bed.app_url(&mended), "SELECT 1").await, "1");
    let authority = bed.daemon.folder().join("ca.pem");
    let mut command = bed.daemon.command();
    command.arg("ca").env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", bed.daemon.http_port()));
    std::fs::write(&authority, command.output().expect("run it").stdout).expect("written");
    let authority = authority.display().to_string();
    for mode in ["prefer", "verify-ca", "verify-full"] {
        bed = bed.told(&[("PGSSLMODE", mode), ("PGSSLROOTCERT", &authority)]).await;
        bed.ensure(1).await;
    }
}
