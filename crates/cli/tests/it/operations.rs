//! Operations as clients see them: begun and not waited for, followed, cancelled, left alone.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::{self, assert_nothing_left};
use pgdb_testkit::{sql, wait};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
const KEYS: [&str; 8] = ["created_at", "error", "finished_at", "id", "kind", "state", "steps", "subject"];
const STEP_KEYS: [&str; 7] = ["attempt", "error", "finished_at", "name", "output", "started_at", "state"];

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_deploy_that_is_not_waited_for_is_followed_to_its_end() {
    let daemon = Daemon::start(BINARY).await;
    let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": "later" })).await.expect(202);
    assert_eq!(keys(&begun), KEYS);
    assert_eq!((&begun["kind"], &begun["subject"]), (&json!("instance.deploy"), &json!("instance/later")));
    assert!(["pending", "running"].contains(&begun["state"].as_str().expect("a state")), "{begun}");
    let id = begun["id"].as_str().expect("an id");

    // The stream ends when the operation has ended.
    let events = daemon.get(&format!("/v1/operations/{id}/events")).await;
    assert_eq!(events.status, 200);
    assert!(events.headers["content-type"].starts_with("text/event-stream"), "{:?}", events.headers);
    let text = String::from_utf8_lossy(&events.bytes).into_owned();
    let seen: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data.trim()).expect("an event holds JSON"))
        .collect();
    let last = seen.last().expect("there are events");
    assert_eq!(last["state"], "succeeded", "{text}");
    assert!(seen.iter().all(|event| event["id"] == id), "{text}");

    let operation = daemon.get(&format!("/v1/operations/{id}")).await.expect(200);
    assert_eq!(&operation, last);
    for step in operation["steps"].as_array().expect("steps") {
        assert_eq!(keys(step), STEP_KEYS);
        assert_eq!((&step["state"], &step["attempt"]), (&json!("succeeded"), &json!(1)), "{step}");
        assert!(step["started_at"].is_string() && step["finished_at"].is_string(), "{step}");
    }
    let item = daemon.item("later").await;
    assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    // Of an ended operation the stream holds its last state and ends at once.
    let again = daemon.get(&format!("/v1/operations/{id}/events")).await;
    assert!(String::from_utf8_lossy(&again.bytes).contains("succeeded"));
    assert_nothing_left(&daemon, &["later"]).await;
}

#[tokio::test]
async fn operations_are_listed_newest_first_and_in_pages() {
    let daemon = Daemon::start(BINARY).await;
    daemon.deploy_named("paged").await;
    for _ in 0..4 {
        daemon.poke("/v1/db/paged/restart").await.expect(200);
    }
    let all = daemon.get("/v1/operations").await.expect(200);
    let kinds: Vec<&Value> = all["items"].as_array().expect("items").iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds.len(), 5);
    assert_eq!((kinds[0], kinds[4]), (&json!("instance.restart"), &json!("instance.deploy")));
    let mut ids = Vec::new();
    let mut path = "/v1/operations?limit=2".to_owned();
    loop {
        let page = daemon.get(&path).await.expect(200);
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        ids.extend(items.iter().map(|item| item["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/operations?limit=2&before={next}");
    }
    assert_eq!(
        json!(ids),
        json!(all["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect::<Vec<_>>())
    );
    let restarts = daemon.get("/v1/operations?kind=instance.restart&state=succeeded&subject=instance/paged").await;
    assert_eq!(restarts.expect(200)["items"].as_array().map(Vec::len), Some(4));
    daemon.get("/v1/operations/op_nothing").await.refused(404);
    assert_nothing_left(&daemon, &["paged"]).await;
}

#[tokio::test]
async fn a_client_that_goes_away_stops_nothing() {
    let daemon = Daemon::start(BINARY).await;
    let body = json!({ "name": "orphaned" }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.http_port())).expect("connect");
    write!(
        stream,
        "POST /v1/deploy HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        daemon.token(),
        body.len()
    )
    .expect("send the request");
    // The first deploy makes the prepared directory first, so it is far from done when it has been written down.
    let look = || async { world::latest_operation(&daemon, "instance.deploy") };
    let id = wait::until(Duration::from_secs(10), "the deploy to begin", look).await;
    drop(stream);
    let operation = daemon.wait_operation(&id).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    let item = daemon.item("orphaned").await;
    assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["orphaned"]).await;
}

#[tokio::test]
async fn a_cancelled_deploy_is_taken_back() {
    let daemon = Daemon::start(BINARY).await;
    let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": "unwanted" })).await.expect(202);
    let id = begun["id"].as_str().expect("an id");
    let cancelled = daemon.poke(&format!("/v1/operations/{id}/cancel")).await;
    assert!([200, 202].contains(&cancelled.status), "{} {}", cancelled.status, cancelled.json);
    let operation = daemon.wait_operation(id).await;
    assert_eq!((&operation["state"], &operation["error"]["code"]), (&json!("undone"), &json!("cancelled")));
    assert_nothing_left(&daemon, &[]).await;
    let late = daemon.poke(&format!("/v1/operations/{id}/cancel")).await;
    assert_eq!(late.refused(409), "not_cancellable");
    daemon.poke("/v1/operations/op_nothing/cancel").await.refused(404);
    daemon.deploy_named("unwanted").await;
    assert_nothing_left(&daemon, &["unwanted"]).await;
}

#[tokio::test]
async fn a_cancel_outlives_the_daemon() {
    let mut daemon = Daemon::start(BINARY).await;
    let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": "unwanted" })).await.expect(202);
    let id = begun["id"].as_str().expect("an id").to_owned();
    daemon.poke(&format!("/v1/operations/{id}/cancel")).await;
    daemon.crash_and_restart(&[]).await;
    let operation = daemon.wait_operation(&id).await;
    assert_eq!(operation["state"], "undone", "{operation:#}");
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn what_goes_forward_only_is_not_cancelled() {
    let mut daemon = Daemon::start(BINARY).await;
    daemon.deploy_named("doomed").await;
    daemon.crash_and_restart(&[("PGDB_FAULTS", "instance.destroy/remove_data/hold")]).await;
    let begun = daemon.delete("/v1/db/doomed?wait=false").await.expect(202);
    let id = begun["id"].as_str().expect("an id");
    daemon.wait_step(id, "remove_data").await;
    assert_eq!(daemon.poke(&format!("/v1/operations/{id}/cancel")).await.refused(409), "not_cancellable");
    daemon.crash_and_restart(&[]).await;
    assert_eq!(daemon.wait_operation(id).await["state"], "succeeded");
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn the_same_destroy_twice_is_one() {
    let daemon = Daemon::start(BINARY).await;
    daemon.deploy_named("doomed").await;
    let (one, two) = tokio::join!(daemon.delete("/v1/db/doomed"), daemon.delete("/v1/db/doomed"));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    // The second joins the first, or comes when it has ended.
    assert!(statuses == [200, 200] || statuses == [200, 404], "{statuses:?}");
    let all = daemon.get("/v1/operations?kind=instance.destroy").await.expect(200);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1));
    assert_nothing_left(&daemon, &[]).await;
}
