//! `GET /v1/registry` and `POST /v1/registry/import`.

use super::view::view;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::JsonBody;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use pgdb_api::admin::ImportReport;
use pgdb_core::registry::Registry;

/// Everything in the format of the original daemon's `registry.json`, passwords in clear.
#[utoipa::path(
    get, path = "/v1/registry", tag = "registry",
    responses((status = 200, body = Object, description = "`{\"items\": [...]}`, the documented registry format."))
)]
pub(super) async fn export_registry(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<Registry>, HttpError> {
    caller.reveals("registry");
    Ok(Json(app.instances.export_registry(&view(&headers, &caller)).await?))
}

/// Takes over the databases of a registry whose data this machine still holds. Nothing is started anew.
#[utoipa::path(
    post, path = "/v1/registry/import", tag = "registry",
    request_body(content = Object, description = "`{\"items\": [...]}`, as exported."),
    responses((status = 200, body = ImportReport))
)]
pub(super) async fn import_registry(
    State(app): State<App>,
    caller: Caller,
    JsonBody(registry): JsonBody<Registry>,
) -> Result<Json<ImportReport>, HttpError> {
    caller.about("registry");
    let report = app.instances.import_registry(registry).await?.report;
    app.reconciler.look_at_all_now();
    Ok(Json(report))
}
