//! `POST /v1/db/{name}/protect` and `…/unprotect`.

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

/// Locks an instance against a destroy.
#[utoipa::path(
    post, path = "/v1/db/{name}/protect", tag = "instances", params(("name" = String, Path)),
    responses((status = 200, body = StatusItem))
)]
pub(super) async fn protect(
    state: State<App>,
    caller: Caller,
    name: PathParams<String>,
    headers: HeaderMap,
) -> Result<Json<StatusItem>, HttpError> {
    set(state, caller, name, headers, true).await
}

/// Unlocks an instance for a destroy.
#[utoipa::path(
    post, path = "/v1/db/{name}/unprotect", tag = "instances", params(("name" = String, Path)),
    responses((status = 200, body = StatusItem))
)]
pub(super) async fn unprotect(
    state: State<App>,
    caller: Caller,
    name: PathParams<String>,
    headers: HeaderMap,
) -> Result<Json<StatusItem>, HttpError> {
    set(state, caller, name, headers, false).await
}

async fn set(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    headers: HeaderMap,
    protected: bool,
) -> Result<Json<StatusItem>, HttpError> {
    caller.about(subject(&name));
    app.instances.set_protected(&name, protected).await?;
    Ok(Json(app.instances.item(&name, &view(&headers, &caller)).await?))
}
