//! `GET /v1/audit`.

use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::audit::{AuditPage, AuditQuery};

/// The audit log, newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "admin", params(AuditQuery), responses((status = 200, body = AuditPage))
)]
pub(super) async fn list_audit(
    State(app): State<App>,
    QueryParams(query): QueryParams<AuditQuery>,
) -> Result<Json<AuditPage>, HttpError> {
    Ok(Json(app.audit.list(query).await?))
}
