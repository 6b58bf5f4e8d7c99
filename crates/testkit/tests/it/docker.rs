//! Container engines and the images that the tests have for them.

use pgdb_testkit::docker::{Engine, Kind, image_files};
use pgdb_testkit::wait;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::NoTls;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn docker_runs_every_image() {
    let engine = Engine::take(Kind::Docker).await;
    every_image_answers(&engine).await;
}

#[tokio::test]
async fn podman_runs_every_image() {
    let engine = Engine::take(Kind::Podman).await;
    every_image_answers(&engine).await;
}

#[tokio::test]
async fn docker_ends_and_comes_back_with_its_containers() {
    let engine = Engine::take(Kind::Docker).await;
    let port = run(&engine, 16, json!({"Name": "unless-stopped"})).await;
    assert_eq!(ask(port, "SELECT 1").await, "1");
    engine.stop();
    assert!(!engine.answers().await);
    engine.start().await;
    // It may have another port, for Docker chose it.
    let port = published_port(&engine, "pg16").await;
    assert_eq!(ask(port, "SELECT current_user").await, "someone");

    // Without a chance to end them, Docker ends the containers when it is back, and leaves them so.
    engine.kill9();
    engine.start().await;
    let look = || async {
        let running = engine.ask(Method::GET, "/containers/pg16/json", Value::Null).await["State"]["Running"].take();
        (running == false).then_some(())
    };
    wait::until(LIMIT, "the container's end", look).await;
    engine.ask(Method::POST, "/containers/pg16/start", Value::Null).await;
    let port = published_port(&engine, "pg16").await;
    assert_eq!(ask(port, "SELECT current_user").await, "someone");
}

#[tokio::test]
async fn an_engine_is_handed_on_empty() {
    let engine = Engine::take(Kind::Docker).await;
    engine.ask(Method::POST, "/volumes/create", json!({"Name": "left"})).await;
    engine.ask(Method::POST, "/networks/create", json!({"Name": "left"})).await;
    run(&engine, 16, Value::Null).await;
    drop(engine);
    let engine = Engine::take(Kind::Docker).await;
    assert_eq!(engine.containers().await, [] as [Value; 0]);
    assert_eq!(engine.volumes().await, [] as [Value; 0]);
    let networks = engine.ask(Method::GET, "/networks", Value::Null).await;
    let names = networks.as_array().expect("a list").iter().map(|network| network["Name"].as_str().unwrap_or_default());
    assert_eq!(names.filter(|name| *name == "left").count(), 0);
}

async fn every_image_answers(engine: &Engine) {
    for (major, _) in image_files() {
        let port = run(engine, major, Value::Null).await;
        let version: u32 = ask(port, "SHOW server_version_num").await.parse().expect("a number");
        assert_eq!(version / 10_000, major);
        assert_eq!(ask(port, "SELECT current_user || ' ' || current_database()").await, "someone something");
        // From 18 on the volume is a level above the data, and the data in a folder of its major.
        let data = ask(port, "SHOW data_directory").await;
        let wanted =
            if major < 18 { "/var/lib/postgresql/data" } else { &format!("/var/lib/postgresql/{major}/docker") };
        assert_eq!(data, wanted);
    }
}

/// Starts `pgMAJOR` and returns its port.
async fn run(engine: &Engine, major: u32, restart: Value) -> u16 {
    let container = json!({
        "Image": format!("postgres:{major}"),
        "Env": ["POSTGRES_USER=someone", "POSTGRES_PASSWORD=secret", "POSTGRES_DB=something"],
        "HostConfig": {
            "PortBindings": {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            "RestartPolicy": restart,
        },
    });
    engine.ask(Method::POST, &format!("/containers/create?name=pg{major}"), container).await;
    engine.ask(Method::POST, &format!("/containers/pg{major}/start"), Value::Null).await;
    published_port(engine, &format!("pg{major}")).await
}

async fn published_port(engine: &Engine, name: &str) -> u16 {
    let look = || async {
        let container = engine.ask(Method::GET, &format!("/containers/{name}/json"), Value::Null).await;
        container["NetworkSettings"]["Ports"]["5432/tcp"][0]["HostPort"].as_str()?.parse().ok()
    };
    wait::until(LIMIT, "a published port", look).await
}

/// The one value that a query answers, as soon as the server takes connections.
async fn ask(port: u16, query: &str) -> String {
    let url = format!("postgres://someone:secret@127.0.0.1:{port}/something");
    let look = || async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(query).await.ok()?;
        drop(client);
        let _ = connection.await;
        messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    };
    wait::until(LIMIT, "the server in the container", look).await
}
