use crate::support::{ADMIN, Daemon, Outcome};
use pgdb_server::http::router::document;
use serde_json::Value;

/// What the contract leaves open.
const OPEN: [&str; 7] = [
    "/healthz",
    "/health",
    "/liveness",
    "/readiness",
    "/metrics",
    "/openapi.json",
    // GitHub sends no token of ours; it signs its deliveries, and without a secret for that the route is not there.
    "/v1/webhooks/github",
];

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

#[tokio::test]
async fn every_route_asks_for_a_token_and_its_scope_except_the_open_list() -> Outcome {
    let daemon = Daemon::start().await?;
    let document = daemon.call("GET", "/openapi.json", "", "").await?.json();
    let (scopeless, _) = daemon.token(&["rest"], None).await?;
    let operations = operations(&document);
    assert!(operations.len() >= 10, "{}", operations.len());
    for (method, path, operation) in operations {
        let concrete = path.replace(['{', '}'], "");
        let anonymous = daemon.call(&method, &concrete, "", "").await?;
        if OPEN.contains(&path.as_str()) {
            assert_ne!(anonymous.status.as_u16(), 401, "{method} {path}");
            assert_eq!(operation["security"], Value::Array(vec![]), "{method} {path}");
            continue;
        }
        assert_eq!((anonymous.status.as_u16(), anonymous.code()), (401, "unauthorized".to_owned()), "{method} {path}");
        assert_eq!(daemon.call(&method, &concrete, "wrong", "").await?.status.as_u16(), 401, "{method} {path}");
        // The bucket of wrong tokens is not what is tested here.
        daemon.clock.pass(6_000);
        let description = operation["description"].as_str().unwrap_or_default();
        if !description.contains("Needs the scope `rest`") && path != "/v1/version" {
            let refused = daemon.call(&method, &concrete, &scopeless, "").await?;
            assert_eq!((refused.status.as_u16(), refused.code()), (403, "forbidden".to_owned()), "{method} {path}");
            assert!(description.contains("Needs the scope"), "{method} {path}");
        }
        for status in ["401", "403", "429", "500", "503"] {
            assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
        }
    }
    for path in ["/docs", "/docs/", "/docs/index.html"] {
        assert_eq!(daemon.call("GET", path, "", "").await?.status.as_u16(), 401, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn the_document_is_the_same_each_time_and_its_references_lead_somewhere() -> Outcome {
    let (first, second) = (document().to_json()?, document().to_json()?);
    assert_eq!(first, second);
    let parsed: Value = serde_json::from_str(&first)?;
    for part in first.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(parsed["components"]["schemas"][name].is_object(), "{name}");
    }
    let mut ids: Vec<String> =
        operations(&parsed).iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
    Ok(())
}

#[tokio::test]
async fn metrics_count_requests_by_template_and_stay_bounded() -> Outcome {
    let daemon = Daemon::start().await?;
    daemon.app.metrics.operation_finished("instance.deploy", "succeeded", 0.25);
    daemon.app.metrics.step_finished("instance.deploy", "start", "succeeded", 0.1);
    daemon.call("DELETE", "/v1/tokens/tk_secret", ADMIN, "").await?;
    daemon.call("GET", "/made/up", ADMIN, "").await?;
    daemon.call("BREW", "/made/up/too", ADMIN, "").await?;
    let text = daemon.call("GET", "/metrics", "", "").await?.text;
    for expected in [
        r#"pgdb_http_requests_total{route="/v1/tokens/{id}",method="DELETE",status="404"} 1"#,
        r#"pgdb_http_requests_total{route="unmatched",method="other",status="404"} 1"#,
        r#"pgdb_operations_total{kind="instance.deploy",outcome="succeeded"} 1"#,
        "pgdb_build_info{version=",
        "pgdb_step_seconds_count",
    ] {
        assert!(text.contains(expected), "{expected} in:\n{text}");
    }
    let off = Daemon::start_changed(|app| {
        let config = (*app.config).clone();
        app.parts_mut().config = std::sync::Arc::new(pgdb_server::config::Config { metrics: false, ..config });
    });
    assert_eq!(off.await?.call("GET", "/metrics", "", "").await?.code(), "route_not_found");
    assert!(!text.contains("tk_secret") && !text.contains("made"));
    Ok(())
}
