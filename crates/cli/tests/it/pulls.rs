//! Images out of a registry that asks who comes.

use pgdb_testkit::docker::gate::{Call, Gate};
use pgdb_testkit::docker::registry::{ImageRegistry, PASSWORD};
use pgdb_testkit::docker::{Engine, Kind};
use pgdb_testkit::on::On;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_with_what_docker_login_has_written() {
    let engine = Arc::new(Engine::take(Kind::Docker).await);
    let registry = ImageRegistry::start().await;
    registry.push(&engine, "postgres:16").await;

    let mut daemon = On::Engine(Arc::clone(&engine)).prepare(BINARY);
    let gate = Gate::open(daemon.folder().join("gate"), engine.socket());
    daemon.set_env("DOCKER_HOST", &gate.host());
    daemon.remember(PASSWORD);
    let folder = daemon.folder().join("client");
    fs::create_dir(&folder).expect("a folder");
    daemon.set_env("DOCKER_CONFIG", folder.to_str().expect("a path"));
    daemon.set_env("PGDB_DOCKER_IMAGE", &format!("{}/postgres:{{major}}", registry.host));
    daemon.set_env("PGDB_DOCKER_PULL", "missing");
    daemon.up(&[]).await;
    let config = folder.join("config.json");
    for (text, why) in [
        (None, "no basic auth credentials"),
        (Some(registry.client_config("wrong")), "unauthorized"),
        (Some("{".to_owned()), "no basic auth credentials"),
    ] {
        if let Some(text) = text {
            fs::write(&config, text).expect("written");
        }
        let answer = daemon.post("/v1/deploy", &json!({ "name": "private" })).await;
        assert_eq!(answer.status, 400, "{}", answer.json);
        assert!(answer.message().contains(why), "{}", answer.message());
    }
    fs::write(&config, registry.client_config(PASSWORD)).expect("written");
    let deployed = daemon.deploy_named("private").await;
    assert_eq!(sql::run(deployed["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    let (pulls, refused): (Vec<Call>, Vec<Call>) = gate.take_calls().into_iter().partition(|call| call.allowed);
    assert!(refused.is_empty(), "the proxy would refuse {refused:#?}");
    assert!(pulls.iter().any(|call| call.line.contains("/images/create")), "{pulls:#?}");
    daemon.destroy("private").await;
    assert_nothing_left(&daemon, &[]).await;
    engine.ask(Method::DELETE, &format!("/images/{}/postgres:16", registry.host), Value::Null).await;
}
