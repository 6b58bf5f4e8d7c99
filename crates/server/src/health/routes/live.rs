//! `GET /healthz`, and the same under the two other names that clients know.

use axum::Json;
use pgdb_api::health::Health;

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { ok: true })
}

/// The process answers.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { ok: true })
}

/// The process answers.
#[utoipa::path(get, path = "/liveness", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn liveness() -> Json<Health> {
    Json(Health { ok: true })
}
