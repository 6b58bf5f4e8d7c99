//! `DELETE /v1/templates/{name}`.

use super::which;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::operations::routes as operations;
use axum::extract::State;
use axum::response::Response;
use pgdb_api::operations::Operation;
use pgdb_api::templates::{DeletedTemplate, TemplateQuery};

/// Removes a template: its database and the one before, what is kept ready of it, its holder, and how it is made. Refused
/// while there are previews of it.
#[utoipa::path(
    delete, path = "/v1/templates/{name}", tag = "templates", params(("name" = String, Path), TemplateQuery),
    responses((status = 200, body = DeletedTemplate), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn delete_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
) -> Result<Response, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    let started = app.templates.start_delete(&which).await?;
    operations::answer(&app, &started, query.wait, async || Ok(app.templates.deleted(&which).await?)).await
}
