//! A database that is made when it is missing.

use crate::server::{ADMIN, PATIENCE, Server, one};
use pgdb_pg::presence::connect_or_create;

const ODD: &str = "it's \"odd\"; DROP";

#[tokio::test]
async fn a_missing_database_is_made_once_and_then_found() {
    let server = Server::start("").await;
    let open = || async { connect_or_create(&server.socket(), ADMIN, None, ODD, PATIENCE).await.expect("a session") };
    // Of several at once one makes it, and all get in.
    let sessions = futures::future::join_all((0..4).map(|_| open())).await;
    assert_eq!(sessions.iter().filter(|(_, made)| *made).count(), 1);
    for (client, _) in sessions {
        assert_eq!(one(&client, "SELECT current_database()::text").await, ODD);
        client.close().await;
    }
    assert!(!open().await.1);
}

#[tokio::test]
async fn a_server_without_a_database_postgres_will_do() {
    let server = Server::start("").await;
    let admin = server.admin("template1").await;
    admin.batch("drop the database", "DROP DATABASE postgres").await.expect("dropped");
    admin.close().await;
    let (client, made) = connect_or_create(&server.socket(), ADMIN, None, "shop", PATIENCE).await.expect("a session");
    assert!(made);
    assert_eq!(one(&client, "SELECT current_database()::text").await, "shop");
    client.close().await;
}
