//! `PUT /v1/templates/{name}`.

use super::which_to_make;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{JsonBody, PathParams, QueryParams};
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::templates::{Template, TemplateDefinition, TemplateLook};

/// Says how a template is made: where it comes from, what is left out, masked and checked. What is left out here stays
/// as it was. Nothing is made yet.
#[utoipa::path(
    put, path = "/v1/templates/{name}", tag = "templates", params(("name" = String, Path), TemplateLook),
    request_body = TemplateDefinition, responses((status = 200, body = Template))
)]
pub(super) async fn define_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateLook>,
    JsonBody(definition): JsonBody<TemplateDefinition>,
) -> Result<Json<Template>, HttpError> {
    let which = which_to_make(&app, &caller, query.on.as_deref(), &name).await?;
    Ok(Json(app.templates.define(&which, definition).await?))
}
