//! `POST /v1/db/{name}/restore`.

use super::view::view;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::http::upload::Upload;
use crate::instances::record::subject;
use crate::operations::routes::answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pgdb_api::instances::{StatusItem, WaitQuery};
use pgdb_api::operations::Operation;

/// Replaces an instance's database by what a dump holds. The body is a dump in `pg_dump`'s custom format. The present
/// database stays as it is until the dump has been read without an error.
#[utoipa::path(
    post, path = "/v1/db/{name}/restore", tag = "instances", params(("name" = String, Path), WaitQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = StatusItem), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn restore(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<WaitQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    caller.about(subject(&name));
    let view = view(&headers, &caller);
    app.instances.item(&name, &view).await?;
    let dump = Upload::dump(&app, body).await?;
    let started = app.instances.start_restore(&name, dump.path().to_owned()).await?;
    dump.hand_over();
    answer(&app, &started, query.wait, async || Ok(app.instances.item(&name, &view).await?)).await
}
