//! `GET /v1/db/{name}`.

use super::view::view;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use crate::instances::record::subject;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use pgdb_api::instances::StatusItem;

/// One instance. Its password only for a token with the scope `instances:reveal`; that is written to the audit log.
#[utoipa::path(
    get, path = "/v1/db/{name}", tag = "instances", params(("name" = String, Path)),
    responses((status = 200, body = StatusItem))
)]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    headers: HeaderMap,
) -> Result<Json<StatusItem>, HttpError> {
    let view = view(&headers, &caller);
    let item = app.instances.item(&name, &view).await?;
    if view.reveal {
        caller.reveals(subject(&name));
    }
    Ok(Json(item))
}
