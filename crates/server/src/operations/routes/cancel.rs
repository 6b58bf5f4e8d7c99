//! `POST /v1/operations/{id}/cancel`.

use super::wire;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pgdb_api::operations::Operation;

/// Asks an operation to end early: its current step is let finish, then everything is taken back.
#[utoipa::path(
    post, path = "/v1/operations/{id}/cancel", tag = "operations",
    params(("id" = String, Path, description = "`op_…`")), responses((status = 202, body = Operation))
)]
pub(super) async fn cancel_operation(
    State(app): State<App>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> Result<(StatusCode, Json<Operation>), HttpError> {
    caller.about(format!("operation/{}", id.chars().take(40).collect::<String>()));
    app.operations.cancel(&id).await?;
    Ok((StatusCode::ACCEPTED, Json(wire(&app.operations.get(&id).await?))))
}
