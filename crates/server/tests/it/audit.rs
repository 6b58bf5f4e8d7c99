use crate::support::{ADMIN, Daemon, Outcome};

#[tokio::test]
async fn what_changes_something_is_written_down_with_its_outcome() -> Outcome {
    let daemon = Daemon::start().await?;
    let (weak, id) = daemon.token(&["rest"], None).await?;
    daemon.call("GET", "/v1/tokens", ADMIN, "").await?;
    let refused = daemon.call("POST", "/v1/tokens", &weak, "{}").await?;
    daemon.call("DELETE", "/v1/tokens/tk_none", ADMIN, "").await?;
    daemon.call("DELETE", &format!("/v1/tokens/{id}"), ADMIN, "").await?;
    daemon.call("POST", "/v1/tokens", "wrong", "{}").await?;
    // Nothing is lost when the daemon ends.
    daemon.app.audit.close().await;

    let page = daemon.call("GET", "/v1/audit", ADMIN, "").await?;
    let items = page.json()["items"].as_array().cloned().unwrap_or_default();
    let rows: Vec<String> = items
        .iter()
        .map(|item| {
            let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
            let actor = text("actor").replace(&id, "ID");
            let subject = text("subject").replace(&id, "ID");
            format!("{actor} {} {subject} {} {} {}", text("action"), item["status"], text("error"), text("remote"))
        })
        .collect();
    assert_eq!(
        rows,
        [
            "bootstrap:PGDB_TOKEN DELETE /v1/tokens/{id} token/ID 200 - 192.0.2.1",
            "bootstrap:PGDB_TOKEN DELETE /v1/tokens/{id} token/tk_none 404 token_not_found 192.0.2.1",
            "ID POST /v1/tokens daemon 403 forbidden 192.0.2.1",
            "bootstrap:PGDB_TOKEN POST /v1/tokens token/ID 201 - 192.0.2.1",
        ]
    );
    assert_eq!(items[2]["request_id"].as_str(), refused.header("x-request-id"));

    let first = daemon.call("GET", "/v1/audit?limit=3", ADMIN, "").await?.json();
    let path = format!("/v1/audit?limit=3&before={}", first["next"]);
    let second = daemon.call("GET", &path, ADMIN, "").await?.json();
    assert_eq!(second["items"].as_array().map(Vec::len), Some(1));
    assert!(second.get("next").is_none());
    let one = daemon.call("GET", &format!("/v1/audit?subject=token/{id}"), ADMIN, "").await?.json();
    assert_eq!(one["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_neither_stops_a_change_nor_hides_it() -> Outcome {
    let daemon = Daemon::start().await?;
    let call = daemon.call("POST", "/v1/tokens", ADMIN, r#"{"name":"a","scopes":["rest"]}"#);
    // One poll starts the request; then its connection is gone.
    tokio::select! {
        biased;
        _ = call => {}
        () = tokio::task::yield_now() => {}
    }
    daemon.app.requests.close();
    daemon.app.requests.wait().await;
    daemon.app.audit.close().await;
    let page = daemon.call("GET", "/v1/audit", ADMIN, "").await?.json();
    assert_eq!(page["items"][0]["status"], 201);
    Ok(())
}
