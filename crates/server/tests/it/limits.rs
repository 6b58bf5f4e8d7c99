use crate::support::{ADMIN, Daemon, Outcome, secrets};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::{StreamExt, stream};
use pgdb_server::config::EnvSecrets;
use std::io;
use std::time::Duration;

#[tokio::test]
async fn a_body_that_never_ends_runs_into_the_time_limit() -> Outcome {
    let daemon = Daemon::start_changed(|app| app.parts_mut().time_limit = Duration::from_millis(20)).await?;
    let endless = stream::pending::<io::Result<Bytes>>();
    let request = Request::post("/v1/tokens")
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/json")
        .body(Body::from_stream(endless))?;
    let answer = daemon.send(request).await?;
    assert_eq!((answer.status.as_u16(), answer.code()), (408, "request_timeout".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_large_body_that_does_not_announce_itself_is_refused_too() -> Outcome {
    let daemon = Daemon::start().await?;
    let chunks = stream::repeat_with(|| io::Result::Ok(Bytes::from(vec![b' '; 65536]))).take(64);
    let request = Request::post("/v1/tokens")
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/json")
        .body(Body::from_stream(chunks))?;
    let answer = daemon.send(request).await?;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "body_too_large".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_webhook_takes_what_github_sends_and_reads_nothing_that_is_not_signed() -> Outcome {
    let secrets = EnvSecrets { github_webhook_secret: Some("a secret".to_owned().into()), ..secrets(ADMIN) };
    let daemon = Daemon::start_with(secrets).await?;
    let post = || Request::post("/v1/webhooks/github").header("x-github-event", "push");
    let chunks = stream::repeat_with(|| io::Result::Ok(Bytes::from(vec![b' '; 1 << 20]))).take(26);
    let signed = post().header("x-hub-signature-256", format!("sha256={}", "0".repeat(64)));
    let answer = daemon.send(signed.body(Body::from_stream(chunks))?).await?;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "body_too_large".to_owned()));
    // One that never ends: whoever waited for it would never answer.
    let endless = stream::pending::<io::Result<Bytes>>();
    let answer = daemon.send(post().body(Body::from_stream(endless))?).await?;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_signature".to_owned()));
    Ok(())
}
