//! `GET /v1/engines`.

use crate::http::error::HttpError;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::engines::EnginesResponse;

/// The PostgreSQL installations that a deploy can use, newest first.
#[utoipa::path(get, path = "/v1/engines", tag = "engines", responses((status = 200, body = EnginesResponse)))]
pub(super) async fn list_engines(State(app): State<App>) -> Result<Json<EnginesResponse>, HttpError> {
    Ok(Json(app.engines.list().await?))
}
