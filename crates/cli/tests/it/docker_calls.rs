//! Which calls the daemon makes to a container engine: those that the proxy of `deploy/docker` lets through.

use pgdb_testkit::api::Body;
use pgdb_testkit::docker::gate::{Call, Gate, allowed};
use pgdb_testkit::docker::{Engine, Kind};
use pgdb_testkit::on::On;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// What is done here with everything that the proxy lets through, but for pulling, for which see `pulls`.
#[tokio::test(flavor = "multi_thread")]
async fn docker_is_asked_what_its_proxy_lets_through_and_nothing_else() {
    let engine = Arc::new(Engine::take(Kind::Docker).await);
    let mut daemon = On::Engine(Arc::clone(&engine)).prepare(BINARY);
    let gate = Gate::open(daemon.folder().join("gate"), engine.socket());
    daemon.set_env("DOCKER_HOST", &gate.host());
    daemon.up(&[]).await;

    let deployed = daemon.deploy(json!({ "name": "behind" })).await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note (text text)").await;
    let dump = daemon.get("/v1/db/behind/dump").await;
    daemon.send(Method::POST, "/v1/db/behind/restore", Body::Bytes(dump.bytes)).await.expect(200);
    daemon.get("/v1/db/behind/logs").await.expect(200);
    daemon.poke("/v1/db/behind/rotate-password").await.expect(200);
    daemon.poke("/v1/db/behind/stop").await.expect(200);
    daemon.poke("/v1/db/behind/start").await.expect(200);
    // One that is killed is heard of, looked at, and started again.
    let container = daemon.item("behind").await["container_id"].clone();
    let path = format!("/containers/{}/kill", container.as_str().expect("a container"));
    engine.ask(Method::POST, &path, json!(null)).await;
    let url = daemon.item("behind").await["database_url"].as_str().expect("a URL").to_owned();
    sql::wait_for(&url).await;
    daemon.crash_and_restart(&[]).await;
    daemon.delete("/v1/db/behind?keep_data=true").await.expect(200);
    daemon.deploy(json!({ "name": "again", "from_volume": "pgdb-behind" })).await;
    daemon.destroy("again").await;
    assert_nothing_left(&daemon, &[]).await;

    let calls = gate.take_calls();
    let refused: Vec<&Call> = calls.iter().filter(|call| !call.allowed).collect();
    assert!(refused.is_empty(), "the proxy would refuse {refused:#?}");
    let unused: Vec<String> = allowed()
        .iter()
        .filter(|pattern| !calls.iter().any(|call| pattern.is_match(&call.line)))
        .map(ToString::to_string)
        .filter(|pattern| !pattern.contains("/images/create"))
        .collect();
    assert!(unused.is_empty(), "the proxy lets more through than is asked: {unused:#?}");
}

/// The status is known without the engine, so that a hundred databases are no more work than one.
#[tokio::test(flavor = "multi_thread")]
async fn docker_is_asked_at_most_once_for_the_status() {
    let engine = Arc::new(Engine::take(Kind::Docker).await);
    let mut daemon = On::Engine(Arc::clone(&engine)).prepare(BINARY);
    let gate = Gate::open(daemon.folder().join("gate"), engine.socket());
    daemon.set_env("DOCKER_HOST", &gate.host());
    daemon.up(&[]).await;
    for name in ["one", "two", "three"] {
        daemon.deploy_named(name).await;
    }
    gate.take_calls();
    assert_eq!(daemon.status().await.len(), 3);
    let calls = gate.take_calls();
    assert!(calls.len() <= 1, "{calls:#?}");
}
