//! `POST /v1/templates/{name}/lock` and `/unlock`.

use super::which;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::templates::{Template, TemplateLook};

/// Refuses to refresh, build and roll back a template.
#[utoipa::path(
    post, path = "/v1/templates/{name}/lock", tag = "templates", params(("name" = String, Path), TemplateLook),
    responses((status = 200, body = Template))
)]
pub(super) async fn lock_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateLook>,
) -> Result<Json<Template>, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    Ok(Json(app.templates.set_locked(&which, true).await?))
}

/// Allows to refresh, build and roll back a template again.
#[utoipa::path(
    post, path = "/v1/templates/{name}/unlock", tag = "templates", params(("name" = String, Path), TemplateLook),
    responses((status = 200, body = Template))
)]
pub(super) async fn unlock_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateLook>,
) -> Result<Json<Template>, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    Ok(Json(app.templates.set_locked(&which, false).await?))
}
