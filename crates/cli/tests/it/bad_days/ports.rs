//! Engines and ports that are not to be had.

use super::BINARY;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::on::On;
use pgdb_testkit::world::{self, assert_nothing_left};
use pgdb_testkit::{on_runtimes, sql};
use reqwest::Method;
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener};

#[tokio::test]
async fn an_engine_that_is_missing_is_named_with_those_that_are_there() {
    let daemon = Daemon::start(BINARY).await;
    let engines = daemon.get("/v1/engines").await.expect(200);
    let items = engines["items"].as_array().expect("items");
    let present: Vec<u64> = items.iter().filter_map(|engine| engine["major"].as_u64()).collect();
    assert!(!present.is_empty(), "no PostgreSQL is installed here");
    let missing = (13..=18).find(|major| !present.contains(major)).expect("one of 13 to 18 is not installed here");
    let answer = daemon.post("/v1/deploy", &json!({ "name": "too-new", "version": missing })).await;
    assert_eq!(answer.refused(400), "engine_missing");
    for major in present.iter().chain([&missing]) {
        assert!(answer.message().contains(&major.to_string()), "{} does not name {major}", answer.message());
    }
    for version in [12, 19, 0] {
        let answer = daemon.post("/v1/deploy", &json!({ "version": version })).await;
        answer.refused(400);
        assert!(answer.message().contains("13"), "{}", answer.message());
    }
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn a_used_up_port_range_is_told_and_a_destroy_helps() {
    let mut daemon = Daemon::prepare(BINARY);
    daemon.narrow_ports(2);
    daemon.up(&[]).await;
    daemon.deploy_named("first").await;
    daemon.deploy_named("second").await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "third" })).await;
    assert_eq!(answer.refused(409), "ports_used_up");
    let range = format!("{}-{}", daemon.first_port(), daemon.first_port() + 1);
    assert!(answer.message().contains(&range), "{}", answer.message());
    assert_nothing_left(&daemon, &["first", "second"]).await;

    // A stopped server keeps its port: it never changes once given out.
    daemon.poke("/v1/db/first/stop").await.expect(200);
    assert_eq!(daemon.post("/v1/deploy", &json!({ "name": "third" })).await.refused(409), "ports_used_up");
    daemon.destroy("second").await;
    let third = daemon.deploy_named("third").await;
    assert_eq!(sql::run(third["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    daemon.poke("/v1/db/first/start").await.expect(200);
    assert_nothing_left(&daemon, &["first", "third"]).await;
}

#[tokio::test]
async fn a_port_of_another_program_is_passed_over() {
    let daemon = Daemon::start(BINARY).await;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, daemon.first_port())).expect("take the first port");
    let deployed = daemon.deploy_named("beside").await;
    assert_eq!(deployed["port"], daemon.first_port() + 1);
    assert_eq!(sql::run(deployed["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    drop(other);
    assert_nothing_left(&daemon, &["beside"]).await;
}

// Engines have words of their own for it.
on_runtimes!(
    process, docker, podman;
    a_port_that_is_taken_at_the_last_moment_is_passed_over,
    a_stopped_servers_port_in_other_hands_is_told_and_given_back,
);

async fn a_port_that_is_taken_at_the_last_moment_is_passed_over(on: &On) {
    let mut daemon = on.start(BINARY).await;
    daemon.crash_and_restart(&[("PGDB_FAULTS", "instance.deploy/start/before")]).await;
    // It may be killed before it has answered: once the port is given out, and before it is listened on.
    let request = Body::Json(json!({ "name": "beside" }));
    let _ = daemon.try_send(Method::POST, "/v1/deploy?wait=false", request).await;
    daemon.ended().await;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, daemon.first_port())).expect("take the port");
    daemon.up(&[]).await;
    let id = world::latest_operation(&daemon, "instance.deploy").expect("the deploy was written down");
    let operation = daemon.wait_operation(&id).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    let item = daemon.item("beside").await;
    assert_eq!(item["host_port"], daemon.first_port() + 1);
    assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    drop(other);
    assert_nothing_left(&daemon, &["beside"]).await;
}

async fn a_stopped_servers_port_in_other_hands_is_told_and_given_back(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("evicted").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    daemon.poke("/v1/db/evicted/stop").await.expect(200);
    let port = u16::try_from(deployed["port"].as_u64().expect("a port")).expect("a port");
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("take the port");
    let answer = daemon.poke("/v1/db/evicted/start").await;
    assert_eq!(answer.refused(409), "port_taken");
    assert!(answer.message().contains(&port.to_string()), "{}", answer.message());
    let item = daemon.wait_state("evicted", "degraded").await;
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains(&port.to_string())), "{item}");
    drop(other);
    daemon.poke("/v1/db/evicted/start").await.expect(200);
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    daemon.wait_state("evicted", "running").await;
    assert_nothing_left(&daemon, &["evicted"]).await;
}
