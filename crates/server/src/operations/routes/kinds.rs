//! `GET /v1/operations/kinds`.

use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::operations::KindsResponse;

/// The kinds of operation that this daemon knows.
#[utoipa::path(
    get, path = "/v1/operations/kinds", tag = "operations", responses((status = 200, body = KindsResponse))
)]
pub(super) async fn operation_kinds(State(app): State<App>) -> Json<KindsResponse> {
    Json(KindsResponse { items: app.operations.kinds() })
}
