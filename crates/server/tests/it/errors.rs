use crate::support::{ADMIN, Daemon, Outcome};
use axum::body::Body;
use axum::http::Request;

#[tokio::test]
async fn every_refusal_has_the_one_shape() -> Outcome {
    let daemon = Daemon::start().await?;
    let big = format!(r#"{{"name":"{}","scopes":["rest"]}}"#, "x".repeat(1 << 20));
    let cases = [
        ("GET", "/nowhere", "", 404, "route_not_found"),
        ("GET", "/v1/nowhere", "", 404, "route_not_found"),
        ("PUT", "/v1/tokens", "", 405, "method_not_allowed"),
        ("POST", "/healthz", "", 405, "method_not_allowed"),
        ("POST", "/v1/tokens", "", 400, "invalid_json"),
        ("POST", "/v1/tokens", "{", 400, "invalid_json"),
        ("POST", "/v1/tokens", "[]", 400, "invalid_json"),
        ("POST", "/v1/tokens", r#"{"name":"a","scopes":["rest"],"x":1}"#, 400, "invalid_json"),
        ("POST", "/v1/tokens", r#"{"name":"","scopes":["rest"]}"#, 400, "invalid_token_name"),
        ("POST", "/v1/tokens", r#"{"name":"a","scopes":[]}"#, 400, "unknown_scope"),
        ("POST", "/v1/tokens", r#"{"name":"a","scopes":["root"]}"#, 400, "unknown_scope"),
        ("POST", "/v1/tokens", r#"{"name":"a","scopes":["rest"],"expires_in_seconds":0}"#, 400, "invalid_expiry"),
        ("POST", "/v1/tokens", big.as_str(), 413, "body_too_large"),
        ("DELETE", "/v1/tokens/tk_none", "", 404, "token_not_found"),
        ("DELETE", "/v1/tokens/%00..%2f", "", 404, "token_not_found"),
        ("DELETE", "/v1/tokens/%ff", "", 400, "invalid_path"),
        ("GET", "/v1/audit?limit=0", "", 400, "invalid_query"),
        ("GET", "/v1/audit?limit=x", "", 400, "invalid_query"),
        ("GET", "/v1/audit?before=-1", "", 400, "invalid_query"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = daemon.call(method, path, ADMIN, body).await?;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code.to_owned()), "{method} {path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let answer = daemon.call("PUT", "/v1/tokens", ADMIN, "").await?;
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST") && allow.contains("GET")));
    let unknown = daemon.call("POST", "/v1/tokens", ADMIN, r#"{"name":"a","scopes":["rest"],"colour":1}"#).await?;
    assert!(unknown.text.contains("colour"), "the unknown field is named: {}", unknown.text);
    Ok(())
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() -> Outcome {
    let daemon = Daemon::start().await?;
    let post = |media: &str| {
        let mut request = Request::post("/v1/tokens").header("authorization", format!("Bearer {ADMIN}"));
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        request.body(Body::from(r#"{"name":"a","scopes":["rest"]}"#))
    };
    for media in ["text/plain", "multipart/form-data", "application/xml"] {
        let answer = daemon.send(post(media)?).await?;
        assert_eq!((answer.status.as_u16(), answer.code()), (415, "unsupported_media_type".to_owned()), "{media}");
    }
    // Clients of the original daemon say nothing, or what curl says by itself.
    for media in ["application/json; charset=utf-8", "", "application/x-www-form-urlencoded"] {
        assert_eq!(daemon.send(post(media)?).await?.status.as_u16(), 201, "{media}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_is_replaced() -> Outcome {
    let daemon = Daemon::start().await?;
    for (given, kept) in [("abc-1.2_3", true), ("a b", false), ("x\u{e9}", false), (&"a".repeat(65), false)] {
        let request = Request::get("/nowhere").header("x-request-id", given.as_bytes()).body(Body::empty())?;
        let answer = daemon.send(request).await?;
        assert_eq!(answer.header("x-request-id") == Some(given), kept, "{given}");
        assert_eq!(answer.code(), "route_not_found");
    }
    Ok(())
}

#[tokio::test]
async fn readiness_says_why_not() -> Outcome {
    let daemon = Daemon::start().await?;
    let answer = daemon.call("GET", "/readiness", "", "").await?;
    assert_eq!((answer.status.as_u16(), answer.json()["ready"].as_bool()), (503, Some(false)));
    assert!(answer.text.contains("starting"));
    daemon.app.ready.set(None);
    let answer = daemon.call("GET", "/readiness", "", "").await?;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, r#"{"ready":true}"#));
    assert_eq!(daemon.call("GET", "/healthz", "", "").await?.text, r#"{"ok":true}"#);
    Ok(())
}
