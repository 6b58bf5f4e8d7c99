//! `POST /v1/templates/{name}/build`.

use super::{answer, which_to_make};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{LargeJsonBody, PathParams, QueryParams};
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::migrations::FILES_LIMIT;
use pgdb_api::operations::Operation;
use pgdb_api::templates::{BuildTemplate, Template, TemplateQuery};

/// Makes a template anew by running files. One that was built from the same files stays as it is.
#[utoipa::path(
    post, path = "/v1/templates/{name}/build", tag = "templates", params(("name" = String, Path), TemplateQuery),
    request_body = BuildTemplate,
    responses((status = 200, body = Template), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn build_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<TemplateQuery>,
    LargeJsonBody(build): LargeJsonBody<BuildTemplate, FILES_LIMIT>,
) -> Result<Response, HttpError> {
    let which = which_to_make(&app, &caller, query.on.as_deref(), &name).await?;
    match app.templates.start_build(&which, build).await? {
        Some(started) => answer(&app, &which, &started, query.wait).await,
        None => Ok(Json(Template { unchanged: true, ..app.templates.show(&which).await? }).into_response()),
    }
}
