use crate::support::{ADMIN, Daemon, Outcome};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::{StreamExt, stream};
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
