//! `POST /v1/previews/{template}/{number}/protect` and `…/unprotect`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::previews::checks;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{OnQuery, Preview};

/// Locks a preview against a delete and a reset; the sweeper passes it by.
#[utoipa::path(
    post, path = "/v1/previews/{template}/{number}/protect", tag = "previews",
    params(("template" = String, Path), ("number" = String, Path, pattern = "^[1-9][0-9]{0,9}$"), OnQuery),
    responses((status = 200, body = Preview))
)]
pub(super) async fn protect_preview(
    state: State<App>,
    caller: Caller,
    path: PathParams<(String, String)>,
    query: QueryParams<OnQuery>,
) -> Result<Json<Preview>, HttpError> {
    set(state, caller, path, query, true).await
}

/// Unlocks a preview.
#[utoipa::path(
    post, path = "/v1/previews/{template}/{number}/unprotect", tag = "previews",
    params(("template" = String, Path), ("number" = String, Path, pattern = "^[1-9][0-9]{0,9}$"), OnQuery),
    responses((status = 200, body = Preview))
)]
pub(super) async fn unprotect_preview(
    state: State<App>,
    caller: Caller,
    path: PathParams<(String, String)>,
    query: QueryParams<OnQuery>,
) -> Result<Json<Preview>, HttpError> {
    set(state, caller, path, query, false).await
}

async fn set(
    State(app): State<App>,
    caller: Caller,
    PathParams((template, number)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<OnQuery>,
    protected: bool,
) -> Result<Json<Preview>, HttpError> {
    caller.about("preview");
    let place = app.previews.place(query.on.as_deref(), Some(&template), checks::digits(&number)?).await?;
    caller.about(place.subject());
    Ok(Json(app.previews.set_protected(&place, protected).await?))
}
