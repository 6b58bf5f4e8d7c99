//! `GET /v1/db/{name}/dump`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use crate::instances::record::subject;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use pgdb_runtime::RunningTool;
use std::io;
use tokio_util::io::ReaderStream;

/// A dump of an instance's database in `pg_dump`'s custom format, as it is made. A dump that fails half-way breaks
/// the connection off, so that no client takes it for a whole one.
#[utoipa::path(
    get, path = "/v1/db/{name}/dump", tag = "instances", params(("name" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub(super) async fn dump(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
) -> Result<Response, HttpError> {
    let running = app.instances.dump(&name).await?;
    caller.reveals(subject(&name));
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, Body::from_stream(whole_or_broken(running))).into_response())
}

/// The program's output, and after it an error unless the program ended well.
fn whole_or_broken(running: RunningTool) -> impl Stream<Item = io::Result<Bytes>> {
    let RunningTool { stdout, finished } = running;
    // Its error output is read from the start: a program whose pipe is full would never end.
    let finished = tokio::spawn(finished);
    let end = stream::once(async move {
        match finished.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(io::Error::other(error))),
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    ReaderStream::new(stdout).chain(end.filter_map(|end| async { end }))
}
