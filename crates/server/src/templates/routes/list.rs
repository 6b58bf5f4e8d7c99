//! `GET /v1/templates`.

use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::templates::{TemplateList, TemplateLook};

/// Every template that is known.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", params(TemplateLook), responses((status = 200, body = TemplateList))
)]
pub(super) async fn list_templates(
    State(app): State<App>,
    QueryParams(query): QueryParams<TemplateLook>,
) -> Result<Json<TemplateList>, HttpError> {
    Ok(Json(TemplateList { items: app.templates.list(query.on.as_deref()).await? }))
}
