//! Logging in, and what it says when that fails.

use crate::server::{ADMIN, PATIENCE, Server, free_port, one};
use pgdb_pg::{PgError, Target, TlsMode, connect, provision, ready, scram};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_session_is_ours_by_name_and_ends_with_its_client() {
    let server = Server::start("log_disconnections = on").await;
    let admin = server.admin("postgres").await;
    assert!((13..=18).contains(&admin.major()), "{admin:?}");
    assert_eq!(one(&admin, "SELECT current_setting('application_name')").await, "pgdb");

    let sessions = "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let second = server.admin("postgres").await;
    // The session that waited for the server may still be leaving.
    while one(&admin, sessions).await != "2" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(second);
    while one(&admin, sessions).await != "1" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!server.log().contains("unexpected EOF"), "{}", server.log());

    admin.batch("be noisy", "DO $$ BEGIN RAISE NOTICE 'hello'; END $$").await.expect("notices do no harm");
    let other = server.admin("postgres").await;
    other
        .query("end", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()", &[])
        .await
        .expect("ended");
    let error = admin.batch("ask", "SELECT 1").await.expect_err("the session has ended");
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn errors_tell_their_class() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    let password = SecretString::from("the right one");
    provision::adopt_existing(&admin, "app", "app", &scram::verifier(&password)).await.expect("made");
    assert_eq!(server.login("app", &password, "app").await.expect("logs in"), "app@app");

    let wrong = server.login("app", &"the wrong one".into(), "app").await.expect_err("wrong password");
    assert!(matches!(&wrong, PgError::AuthenticationRefused { role, .. } if role == "app"), "{wrong:?}");
    assert_eq!(wrong.sqlstate(), Some("28P01"));
    assert!(!wrong.is_transient());
    assert_eq!(wrong.to_string(), format!("PostgreSQL at 127.0.0.1:{} refused the login of role 'app'", server.port));
    assert!(!format!("{wrong:?}").contains("wrong one"));

    let tcp = server.tcp(TlsMode::Disable);
    let silent = connect(&tcp, "app", None, "app", PATIENCE).await.expect_err("no password");
    assert!(matches!(silent, PgError::AuthenticationRefused { .. }), "{silent:?}");

    let nowhere = server.login("app", &password, "nowhere").await.expect_err("no such database");
    assert!(matches!(nowhere, PgError::CannotConnect { .. }), "{nowhere:?}");
    assert_eq!((nowhere.sqlstate(), nowhere.is_transient()), (Some("3D000"), false));

    let nobody = Target::Tcp { host: "127.0.0.1".into(), port: free_port(), tls: TlsMode::Disable };
    let refused = connect(&nobody, "app", None, "app", PATIENCE).await.expect_err("nobody listens");
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!(refused.to_string(), format!("cannot connect to PostgreSQL at {nobody}"));

    let failed = admin.batch("try it", "SELECT 'hunter2' FROM missing").await.expect_err("no such table");
    assert_eq!(failed.sqlstate(), Some("42P01"));
    assert_eq!(failed.server().and_then(|error| error.position), Some(23));
    assert!(!format!("{failed} {failed:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mute = Target::Tcp { host: "127.0.0.1".into(), port, tls: TlsMode::Disable };
    let begin = Instant::now();
    let error = connect(&mute, "app", None, "app", Duration::from_millis(50)).await.expect_err("mute");
    assert!(error.is_transient(), "{error:?}");
    let error = ready::wait_until_answers(&mute, "app", None, "app", Duration::from_millis(50)).await;
    assert!(matches!(error, Err(PgError::CannotConnect { .. })), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn waiting_stops_at_once_when_it_is_of_no_use() {
    let server = Server::start("").await;
    let begin = Instant::now();
    let tcp = server.tcp(TlsMode::Disable);
    let error = ready::wait_until_answers(&tcp, ADMIN, Some(&"nope".into()), "postgres", PATIENCE).await;
    assert!(matches!(error, Err(PgError::AuthenticationRefused { .. })), "{error:?}");
    assert!(begin.elapsed() < PATIENCE / 4);
}

#[tokio::test]
async fn the_test_server_leaves_nothing_behind() {
    let server = Server::start("").await;
    let (process, folder) = (format!("/proc/{}", server.pid()), server.socket());
    drop(server);
    let Target::Socket { dir, .. } = folder else { unreachable!() };
    assert!(!std::path::Path::new(&process).exists());
    assert!(!dir.exists());
}
