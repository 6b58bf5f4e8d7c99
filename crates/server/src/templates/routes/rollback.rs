//! `POST /v1/templates/{name}/rollback`.

use super::{answer, which};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use axum::extract::State;
use axum::response::Response;
use pgdb_api::operations::Operation;
use pgdb_api::templates::{Template, TemplateQuery};

/// Lets a template and the one before it change places. Doing it again goes forward again.
#[utoipa::path(
    post, path = "/v1/templates/{name}/rollback", tag = "templates", params(("name" = String, Path), TemplateQuery),
    responses((status = 200, body = Template), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn rollback_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
) -> Result<Response, HttpError> {
    let which = which(&app, &caller, query.on.as_deref(), &name).await?;
    let started = app.templates.start_rollback(&which).await?;
    answer(&app, &which, &started, query.wait).await
}
