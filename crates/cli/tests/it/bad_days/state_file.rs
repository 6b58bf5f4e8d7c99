//! The state file locked, damaged, or from the future.

use super::BINARY;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use rusqlite::Connection;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

#[tokio::test]
async fn a_state_file_that_another_program_has_locked_is_waited_for_and_told() {
    let mut daemon = Daemon::start(BINARY).await;
    let before = daemon.deploy_named("before").await;
    let other = Connection::open(daemon.state_file()).expect("open the state file");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock the state file");
    let answer = daemon.post("/v1/deploy", &json!({ "name": "meanwhile" })).await;
    assert_eq!(answer.refused(503), "state_locked");
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    assert!(answer.message().contains("locked"), "{}", answer.message());
    assert!(daemon.is_alive());
    assert_eq!(daemon.status().await.len(), 1, "reading does not need the lock");
    assert_eq!(sql::run(before["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    other.execute_batch("ROLLBACK").expect("let go of the state file");
    drop(other);
    daemon.deploy_named("meanwhile").await;
    daemon.destroy("before").await;
    assert_nothing_left(&daemon, &["meanwhile"]).await;
}

#[tokio::test]
async fn an_operation_outlives_a_locked_state_file() {
    let daemon = Daemon::start(BINARY).await;
    // The first deploy makes the prepared directory, which takes long enough to lock the file meanwhile.
    let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": "patient" })).await.expect(202);
    let other = Connection::open(daemon.state_file()).expect("open the state file");
    other.busy_timeout(std::time::Duration::from_secs(5)).expect("set a time limit");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock the state file");
    let locked_for = std::time::Duration::from_secs(7);
    let (operation, ()) = tokio::join!(daemon.wait_operation(begun["id"].as_str().expect("an id")), async {
        // Longer than a statement waits for the lock, so that the daemon has to try again by itself.
        tokio::time::sleep(locked_for).await;
        other.execute_batch("ROLLBACK").expect("let go of the state file");
    });
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    let item = daemon.item("patient").await;
    assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["patient"]).await;
}

#[tokio::test]
async fn a_damaged_state_file_is_refused_and_servers_go_on() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    assert!(daemon.stop().await.success(), "the daemon ends cleanly");
    // What is still in the log beside the file would mend it.
    let connection = Connection::open(daemon.state_file()).expect("open the state file");
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("move the log into the file");
    drop(connection);
    let good = fs::read(daemon.state_file()).expect("read the state file");
    let file = File::options().write(true).open(daemon.state_file()).expect("open the state file");
    for damage in [0, 4096 * 2] {
        file.write_all_at(&[0xA5; 4096], damage).expect("damage the state file");
        let output = daemon.fails_to_start(daemon.http_port(), &[]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("damaged") && said.contains("state.db"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept", "the server is no part of the damage");
    }
    file.write_all_at(&good, 0).expect("mend the state file");
    daemon.up(&[]).await;
    daemon.wait_state("steady", "running").await;
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &["steady"]).await;
}

#[tokio::test]
async fn a_state_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    assert!(daemon.stop().await.success(), "the daemon ends cleanly");
    let connection = Connection::open(daemon.state_file()).expect("open the state file");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("read the version");
    connection.execute_batch("PRAGMA user_version = 999").expect("claim to be newer");
    let output = daemon.fails_to_start(daemon.http_port(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("newer") && said.contains("999") && said.contains("upgrade"), "{said}");
    assert_eq!(sql::run(url, "SELECT 1").await, "1");
    connection.execute_batch(&format!("PRAGMA user_version = {version}")).expect("take the claim back");
    drop(connection);
    daemon.up(&[]).await;
    daemon.wait_state("steady", "running").await;
    assert_nothing_left(&daemon, &["steady"]).await;
}
