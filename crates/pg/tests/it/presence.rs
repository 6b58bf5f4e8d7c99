//! A database that is made when it is missing.

use crate::server::{ADMIN, PATIENCE, Server, one};
use pgdb_pg::migrate::session::Login;
use pgdb_pg::{Client, PgError, connect, presence};

fn login(server: &Server, db: &str) -> Login {
    Login { target: server.socket(), user: ADMIN.into(), password: None, db: db.into(), timeout: PATIENCE }
}

async fn open(login: &Login) -> Result<Client, PgError> {
    connect(&login.target, &login.user, None, &login.db, login.timeout).await
}

#[tokio::test]
async fn a_missing_database_is_made_once() {
    let server = Server::start("").await;
    let odd = login(&server, "it's \"odd\"; DROP");
    assert!(presence::is_missing(&open(&odd).await.expect_err("no such database")));
    // Of several at once one makes it, and no other fails.
    let made = futures::future::join_all((0..4).map(|_| presence::create(&odd))).await;
    let made: Vec<bool> = made.into_iter().map(|made| made.expect("no failure")).collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let client = open(&odd).await.expect("a session");
    assert_eq!(one(&client, "SELECT current_database()::text").await, odd.db);
    client.close().await;
    assert!(!presence::create(&odd).await.expect("no failure"));
}

#[tokio::test]
async fn a_server_without_a_database_postgres_will_do() {
    let server = Server::start("").await;
    let admin = server.admin("template1").await;
    admin.batch("drop the database", "DROP DATABASE postgres").await.expect("dropped");
    admin.close().await;
    let shop = login(&server, "shop");
    assert!(presence::create(&shop).await.expect("made"));
    open(&shop).await.expect("a session").close().await;
}
