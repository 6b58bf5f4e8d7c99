//! `GET /v1/status`.

use super::view::view;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::state::App;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use pgdb_api::instances::StatusResponse;

/// Every instance. Passwords only for a token with the scope `instances:reveal`.
#[utoipa::path(get, path = "/v1/status", tag = "instances", responses((status = 200, body = StatusResponse)))]
pub(super) async fn status(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Result<Response, HttpError> {
    let body = app.instances.status(view(&headers, &caller)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
