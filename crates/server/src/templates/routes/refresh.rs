//! `POST /v1/templates/{name}/refresh`, and the same from an uploaded dump.

use super::{answer, which_to_make};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::http::upload::Upload;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use pgdb_api::operations::Operation;
use pgdb_api::templates::{Template, TemplateQuery};

/// Makes a template anew from its source. The present one stays until the new one is whole, masked and checked, and is
/// kept afterwards.
#[utoipa::path(
    post, path = "/v1/templates/{name}/refresh", tag = "templates", params(("name" = String, Path), TemplateQuery),
    responses((status = 200, body = Template), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn refresh_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
) -> Result<Response, HttpError> {
    let which = which_to_make(&app, &caller, query.on.as_deref(), &name).await?;
    let started = app.templates.start_refresh(&which, None).await?;
    answer(&app, &which, &started, query.wait).await
}

/// The same from a dump in `pg_dump`'s custom format, which is the body.
#[utoipa::path(
    post, path = "/v1/templates/{name}/refresh/dump", tag = "templates",
    params(("name" = String, Path), TemplateQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Template), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn refresh_template_from_dump(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
    body: Body,
) -> Result<Response, HttpError> {
    let which = which_to_make(&app, &caller, query.on.as_deref(), &name).await?;
    let dump = Upload::dump(&app, body).await?;
    let started = app.templates.start_refresh(&which, Some(dump.path().to_owned())).await?;
    dump.hand_over();
    answer(&app, &which, &started, query.wait).await
}
