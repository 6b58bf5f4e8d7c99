//! `GET /v1/db/{name}/logs`.

use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pgdb_api::instances::LogsQuery;
use pgdb_runtime::spec::LogOptions;
use tokio_util::io::ReaderStream;

const MOST_LINES: usize = 100_000;

/// The log of an instance's server, as plain text; with `follow=true` the answer goes on as more is written.
#[utoipa::path(
    get, path = "/v1/db/{name}/logs", tag = "instances", params(("name" = String, Path), LogsQuery),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn logs(
    State(app): State<App>,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<LogsQuery>,
) -> Result<Response, HttpError> {
    if query.lines > MOST_LINES {
        let message = format!("'lines' is {}; it has to be at most {MOST_LINES}", query.lines);
        return Err(Problem::invalid("invalid_value", message).into());
    }
    let log = app.instances.logs(&name, LogOptions { lines: query.lines, follow: query.follow }).await?;
    // The end of the daemon ends a stream that would go on for ever.
    let body = futures::StreamExt::take_until(ReaderStream::new(log), app.shutdown.clone().cancelled_owned());
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(body)).into_response())
}
