//! `GET /v1/operations/{id}`.

use super::wire;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::operations::Operation;

/// One operation with its steps.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations", params(("id" = String, Path, description = "`op_…`")),
    responses((status = 200, body = Operation))
)]
pub(super) async fn show_operation(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<Operation>, HttpError> {
    Ok(Json(wire(&app.operations.get(&id).await?)))
}
