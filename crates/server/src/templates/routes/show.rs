//! `GET /v1/templates/{name}`.

use super::which;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::templates::{Template, TemplateLook};

/// One template as it stands.
#[utoipa::path(
    get, path = "/v1/templates/{name}", tag = "templates", params(("name" = String, Path), TemplateLook),
    responses((status = 200, body = Template))
)]
pub(super) async fn show_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateLook>,
) -> Result<Json<Template>, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    Ok(Json(app.templates.show(&which).await?))
}
