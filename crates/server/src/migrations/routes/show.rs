//! `GET /v1/migrations/{operation}`.

use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::migrations::Rollout;

/// How a rollout stands, or what came of it: a report of every database.
#[utoipa::path(
    get, path = "/v1/migrations/{operation}", tag = "migrations", params(("operation" = String, Path)),
    responses((status = 200, body = Rollout))
)]
pub(super) async fn show_rollout(
    State(app): State<App>,
    PathParams(operation): PathParams<String>,
) -> Result<Json<Rollout>, HttpError> {
    Ok(Json(app.migrations.show(&operation).await?))
}
