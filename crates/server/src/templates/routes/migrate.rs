//! `POST /v1/templates/{name}/migrate`.

use super::{answer, which};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{LargeJsonBody, PathParams, QueryParams};
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::migrations::FILES_LIMIT;
use pgdb_api::operations::Operation;
use pgdb_api::templates::{MigrateTemplate, Template, TemplateQuery};

/// Runs migrations in a copy of a template, which then takes its place. One that holds them already stays as it is.
#[utoipa::path(
    post, path = "/v1/templates/{name}/migrate", tag = "templates", params(("name" = String, Path), TemplateQuery),
    request_body = MigrateTemplate,
    responses((status = 200, body = Template), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn migrate_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
    LargeJsonBody(migrate): LargeJsonBody<MigrateTemplate, FILES_LIMIT>,
) -> Result<Response, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    match app.templates.start_migrate(&which, migrate).await? {
        Some(started) => answer(&app, &which, &started, query.wait).await,
        None => Ok(Json(Template { unchanged: true, ..app.templates.show(&which).await? }).into_response()),
    }
}
