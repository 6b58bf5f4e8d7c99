//! `POST /v1/previews/{template}/prepare`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::operations::routes::accepted;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::operations::Operation;
use pgdb_api::previews::{PreviewPool, PreviewQuery};

/// Looks at a template anew, after somebody has changed it: its objects get their holder, it is closed to sessions,
/// and the pool is made anew. An ensure does so by itself when it finds another database, or an open one, under the
/// template's name.
#[utoipa::path(
    post, path = "/v1/previews/{template}/prepare", tag = "previews",
    params(("template" = String, Path), PreviewQuery),
    responses((status = 200, body = PreviewPool), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn prepare_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(template): PathParams<String>,
    QueryParams(query): QueryParams<PreviewQuery>,
) -> Result<Response, HttpError> {
    caller.about("template");
    let on = query.on.as_deref();
    let started = app.previews.prepare_template(on, &template).await?;
    if !query.wait {
        return accepted(&app, &started).await;
    }
    app.operations.finish(&started.id).await?;
    let template = app.previews.template(on, &template).await?;
    Ok(Json(app.previews.pool(&template).await?).into_response())
}
