//! `GET /readiness`.

use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pgdb_api::health::Readiness;

/// Whether requests can be served, and why not.
#[utoipa::path(
    get, path = "/readiness", tag = "health",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "not ready"))
)]
pub(super) async fn readiness(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let reason = match app.ready.reason() {
        Some(reason) => Some(reason),
        None => match app.store.read(|connection| Ok(connection.execute_batch("SELECT 1")?)).await {
            Ok(()) => None,
            Err(problem) => {
                tracing::error!(%problem, "the state cannot be read");
                Some("the state cannot be read".to_owned())
            }
        },
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reason.is_none(), reason }))
}
