//! `GET /v1/db/{name}/dump`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use crate::instances::record::subject;
use crate::instances::world::runtime_problem;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use pgdb_runtime::{RunningTool, RuntimeError};
use std::io;
use tokio::task::JoinHandle;
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
    let RunningTool { stdout, finished } = app.instances.dump(&name).await?;
    // Its error output is read from the start: a program whose pipe is full would never end.
    let finished = tokio::spawn(finished);
    let mut output = ReaderStream::new(stdout);
    // A program that fails at once has written nothing: then there is still an error to answer with.
    let Some(first) = output.next().await else {
        finished
            .await
            .map_err(|error| Problem::internal(error.to_string()))?
            .map_err(|error| runtime_problem(&error))?;
        return Err(Problem::upstream("tool_failed", "pg_dump ended without writing anything").into());
    };
    caller.reveals(subject(&name));
    let whole_or_broken = stream::iter([first]).chain(output).chain(end(name, finished));
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, Body::from_stream(whole_or_broken)).into_response())
}

/// After the program's output: an error, which is noted, unless the program ended well.
fn end(name: String, finished: JoinHandle<Result<(), RuntimeError>>) -> impl Stream<Item = io::Result<Bytes>> {
    let end = stream::once(async move {
        let error = match finished.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => io::Error::other(error),
            Err(error) => io::Error::other(error),
        };
        tracing::warn!(instance = name, %error, "a dump broke off");
        Some(Err(error))
    });
    end.filter_map(|end| async { end })
}
