//! Whole databases in each other's place.

use crate::server::{PATIENCE, Server, one};
use pgdb_pg::swap::{
    allow_connections, create_database, database_exists, database_size, drop_database, end_sessions, owner,
    revoke_connect_from_public, swap_databases,
};
use pgdb_pg::{PgError, connect};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test]
async fn databases_come_and_go() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin.batch("make roles", "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN").await.expect("roles");
    let name = "hostile\"; DROP DATABASE postgres; --";
    for _ in 0..2 {
        create_database(&admin, name, "app").await.expect("made");
    }
    assert!(database_exists(&admin, name).await.expect("looked"));
    assert_eq!(owner(&admin, name).await.expect("looked").as_deref(), Some("app"));
    assert!(database_size(&admin, name).await.expect("measured").is_some_and(|bytes| bytes > 1_000_000));

    for _ in 0..2 {
        revoke_connect_from_public(&admin, name).await.expect("revoked");
    }
    let refused = connect(&server.socket(), "other", None, name, PATIENCE).await.expect_err("no right to connect");
    assert_eq!(refused.sqlstate(), Some("42501"));
    let inside = connect(&server.socket(), "app", None, name, PATIENCE).await.expect("the owner gets in");

    for _ in 0..2 {
        drop_database(&admin, name).await.expect("dropped, session or not");
    }
    assert!(inside.batch("ask", "SELECT 1").await.is_err());
    assert!(!database_exists(&admin, name).await.expect("looked"));
    assert_eq!(owner(&admin, name).await.expect("looked"), None);
    assert_eq!(database_size(&admin, name).await.expect("measured"), None);
    assert!(matches!(create_database(&admin, "", "app").await, Err(PgError::Unquotable(_))));
}

#[tokio::test]
async fn many_may_make_the_same_database() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin.batch("make a role", "CREATE ROLE app LOGIN").await.expect("a role");
    let (second, third) = (server.admin("postgres").await, server.admin("postgres").await);
    let made = tokio::join!(
        create_database(&admin, "same", "app"),
        create_database(&second, "same", "app"),
        create_database(&third, "same", "app"),
    );
    assert!(matches!(made, (Ok(()), Ok(()), Ok(()))), "{made:?}");
}

#[tokio::test]
async fn the_rest_of_a_half_done_drop_is_made_anew() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin.batch("make a role", "CREATE ROLE app LOGIN").await.expect("a role");
    create_database(&admin, "broken", "app").await.expect("made");
    admin
        .batch("break it", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'")
        .await
        .expect("as a crash in the middle of DROP DATABASE leaves it");
    assert!(!database_exists(&admin, "broken").await.expect("looked"));
    create_database(&admin, "broken", "app").await.expect("made anew");
    server.admin("broken").await.close().await;
}

#[tokio::test]
async fn a_restored_database_takes_the_place_of_the_old_one() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin.batch("make a role", "CREATE ROLE app LOGIN").await.expect("a role");
    for db in ["current", "incoming"] {
        create_database(&admin, db, "app").await.expect("made");
        let inside = server.admin(db).await;
        inside.batch("mark it", &format!("CREATE TABLE mark AS SELECT '{db}'::text AS was")).await.expect("marked");
        inside.close().await;
    }
    let mark = async |db: &str| one(&server.admin(db).await, "SELECT was FROM mark").await;

    // A client that connects again as soon as it is thrown out.
    let stop = Arc::new(AtomicBool::new(false));
    let (target, stopped) = (server.socket(), Arc::clone(&stop));
    let stubborn = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            if let Ok(client) = connect(&target, "app", None, "current", PATIENCE).await {
                let _ = client.batch("stay", "SELECT pg_sleep(1)").await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begin = tokio::time::Instant::now();
    for _ in 0..2 {
        swap_databases(&admin, "current", "incoming", "outgoing").await.expect("swapped");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "PostgreSQL's wait for sessions was not needed");
    stop.store(true, Ordering::Relaxed);
    stubborn.await.expect("the client ends");
    assert_eq!(mark("current").await, "incoming");
    assert!(!database_exists(&admin, "incoming").await.expect("looked"));
    let closed = connect(&server.socket(), "app", None, "outgoing", PATIENCE).await.expect_err("closed");
    assert_eq!(closed.sqlstate(), Some("55000"));

    // Back again.
    swap_databases(&admin, "current", "outgoing", "incoming").await.expect("swapped back");
    assert_eq!(mark("current").await, "current");

    // Names that are taken or missing; nothing has changed, and the database is open.
    create_database(&admin, "outgoing", "app").await.expect("made");
    allow_connections(&admin, "incoming", true).await.expect("opened");
    let taken = swap_databases(&admin, "current", "incoming", "outgoing").await.expect_err("taken");
    assert!(matches!(&taken, PgError::InTheWay { name, .. } if name == "outgoing"), "{taken:?}");
    let missing = swap_databases(&admin, "current", "nowhere", "elsewhere").await.expect_err("missing");
    assert!(matches!(&missing, PgError::Missing { name, .. } if name == "nowhere"), "{missing:?}");
    assert_eq!(mark("current").await, "current");

    // The owner has dropped the database: the restored one moves in.
    drop_database(&admin, "current").await.expect("dropped");
    swap_databases(&admin, "current", "incoming", "outgoing").await.expect("moved in");
    assert_eq!(mark("current").await, "incoming");
}

#[tokio::test]
async fn autovacuum_holds_nobody_up_who_may_not_end_it() {
    // So slow that it is at work as long as the test is.
    let slow = "autovacuum_naptime = 1s\nautovacuum_vacuum_cost_delay = 100ms\nautovacuum_vacuum_cost_limit = 1\n\
                autovacuum_vacuum_threshold = 1\nautovacuum_vacuum_scale_factor = 0";
    let server = Server::start(slow).await;
    let admin = server.admin("postgres").await;
    let operator = "CREATE ROLE operator LOGIN CREATEDB; GRANT pg_signal_backend TO operator";
    admin.batch("make a role", operator).await.expect("a role");
    create_database(&admin, "busy", "operator").await.expect("made");
    let inside = server.admin("busy").await;
    let rows = "CREATE TABLE t AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 20000) n; \
                DELETE FROM t WHERE n % 2 = 0";
    inside.batch("make work for autovacuum", rows).await.expect("rows");
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = 'busy' AND backend_type = 'autovacuum worker'";
    while inside.query("look for autovacuum", sql, &[]).await.expect("looked").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    inside.close().await;
    let operator = connect(&server.socket(), "operator", None, "postgres", PATIENCE).await.expect("in");
    allow_connections(&operator, "busy", false).await.expect("closed");
    end_sessions(&operator, "busy").await.expect("there is none but autovacuum");
    drop_database(&operator, "busy").await.expect("dropped");
    assert!(!database_exists(&operator, "busy").await.expect("looked"));
}
