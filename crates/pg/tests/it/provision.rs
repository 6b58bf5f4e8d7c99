//! Giving a server its owner.

use crate::server::{Server, one};
use pgdb_pg::provision::{Claim, adopt_existing, claim_prepared, set_password};
use pgdb_pg::{Client, PgError, scram};
use secrecy::{ExposeSecret, SecretString};

const LOUD: &str = "log_statement = 'all'\nlog_min_duration_statement = 0\nlog_min_error_statement = 'debug5'";

fn claim<'a>(role: &'a str, db: &'a str, verifier: &'a str) -> Claim<'a> {
    Claim { prepared_role: "prepared_role", prepared_db: "prepared_db", role, db, verifier, superuser: false }
}

async fn prepare(admin: &Client) {
    admin.batch("make the role", "CREATE ROLE prepared_role NOLOGIN").await.expect("a role");
    admin.batch("make the database", "CREATE DATABASE prepared_db OWNER prepared_role").await.expect("a database");
}

async fn is_superuser(admin: &Client, role: &str) -> String {
    one(admin, &format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{role}'")).await
}

#[tokio::test]
async fn prepared_data_becomes_its_owners() {
    let server = Server::start(LOUD).await;
    let admin = server.admin("postgres").await;
    prepare(&admin).await;
    let password = SecretString::from("pa$$w'ord-\\-ünïque");
    let verifier = scram::verifier(&password);

    // A hostile name, and the same call three times: after a crash it is repeated.
    let (role, db) = ("u_\"'\\; --", "pg_\"'\\; --");
    for _ in 0..3 {
        claim_prepared(&admin, claim(role, db, &verifier)).await.expect("claimed");
        assert_eq!(server.login(role, &password, db).await.expect("logs in"), format!("{role}@{db}"));
    }
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate";
    assert_eq!(one(&admin, names).await, format!("{db} postgres"));

    claim_prepared(&admin, Claim { superuser: true, ..claim(role, db, &verifier) }).await.expect("raised");
    assert_eq!(one(&admin, "SELECT count(*)::text FROM pg_roles WHERE rolsuper").await, "2");
    claim_prepared(&admin, claim(role, db, &verifier)).await.expect("lowered");
    assert_eq!(one(&admin, "SELECT count(*)::text FROM pg_roles WHERE rolsuper").await, "1");

    let log = server.log();
    assert!(log.contains("CREATE ROLE prepared_role NOLOGIN"), "the log is as loud as it gets:\n{log}");
    assert!(!log.contains("ord-"), "{log}");
    assert!(!log.contains("SCRAM-SHA-256$"), "a superuser keeps the verifier out as well:\n{log}");
}

#[tokio::test]
async fn data_with_other_names_is_said_to_be_that() {
    let server = Server::start(LOUD).await;
    let admin = server.admin("postgres").await;
    prepare(&admin).await;
    let verifier = scram::verifier(&"first".into());
    claim_prepared(&admin, claim("first", "first", &verifier)).await.expect("claimed");
    let error = claim_prepared(&admin, claim("second", "second", &verifier)).await.expect_err("no longer prepared");
    assert!(matches!(&error, PgError::Missing { kind: "role", .. }), "{error:?}");
    assert!(error.to_string().contains("other names"), "{error}");

    // Half of it fails: nothing of it happened, and the session can be used on.
    prepare(&admin).await;
    let busy = server.admin("prepared_db").await;
    let error = claim_prepared(&admin, claim("second", "second", &verifier)).await.expect_err("in use");
    assert_eq!((error.sqlstate(), error.is_transient()), (Some("55006"), true));
    let role = "SELECT rolname::text FROM pg_roles WHERE rolname IN ('second', 'prepared_role')";
    assert_eq!(one(&admin, role).await, "prepared_role");
    busy.close().await;
    claim_prepared(&admin, claim("second", "second", &verifier)).await.expect("claimed");
    assert!(!server.log().contains("SCRAM-SHA-256$"), "{}", server.log());
}

#[tokio::test]
async fn kept_data_is_taken_up() {
    let server = Server::start(LOUD).await;
    let admin = server.admin("postgres").await;
    let password = SecretString::from("kept-password");
    let verifier = scram::verifier(&password);
    for _ in 0..2 {
        adopt_existing(&admin, "kept", "kept_db", &verifier).await.expect("adopted");
        assert_eq!(server.login("kept", &password, "kept_db").await.expect("logs in"), "kept@kept_db");
    }
    assert_eq!(
        one(&admin, "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'kept_db'").await,
        "kept"
    );

    // A role that could not log in, and a database whose owner somebody chose.
    admin.batch("make", "CREATE ROLE closed NOLOGIN").await.expect("a role");
    adopt_existing(&admin, "closed", "kept_db", &verifier).await.expect("adopted");
    assert_eq!(server.login("closed", &password, "kept_db").await.expect("logs in"), "closed@kept_db");
    assert_eq!(is_superuser(&admin, "closed").await, "false");
    assert_eq!(
        one(&admin, "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'kept_db'").await,
        "kept"
    );
}

#[tokio::test]
async fn a_password_changes_without_being_logged() {
    let server = Server::start(LOUD).await;
    let admin = server.admin("postgres").await;
    let (old, new) = (SecretString::from("old-password"), SecretString::from("new-password"));
    adopt_existing(&admin, "app", "app", &scram::verifier(&old)).await.expect("adopted");

    for _ in 0..2 {
        set_password(&admin, "app", &scram::verifier(&new)).await.expect("changed");
    }
    assert!(server.login("app", &old, "app").await.is_err());
    server.login("app", &new, "app").await.expect("logs in");
    assert!(!server.log().contains("SCRAM-SHA-256$"), "{}", server.log());

    // The role itself, no superuser: the verifier may be logged, the password is not.
    let own = pgdb_pg::connect(&server.socket(), "app", None, "app", crate::server::PATIENCE).await.expect("in");
    set_password(&own, "app", &scram::verifier(&old)).await.expect("changed back");
    server.login("app", &old, "app").await.expect("logs in");

    assert!(matches!(set_password(&admin, "app", new.expose_secret()).await, Err(PgError::NotAVerifier)));
    let nobody = set_password(&admin, "nobody", &scram::verifier(&new)).await.expect_err("no such role");
    assert_eq!(nobody.sqlstate(), Some("42704"));
    assert!(admin.batch("ask", "SELECT 1").await.is_ok(), "the session can be used on");
    assert!(!server.log().contains("-password"), "{}", server.log());
}
