//! `POST /v1/previews/{template}/warm` and `DELETE /v1/previews/{template}/pool/{entry}`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::operations::Started;
use crate::operations::routes::accepted;
use crate::previews::templates::TemplateRecord;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::operations::Operation;
use pgdb_api::previews::{PreviewPool, PreviewQuery};

/// Makes one more clone of a template ahead. It is kept for a while even where the pool is to be smaller.
#[utoipa::path(
    post, path = "/v1/previews/{template}/warm", tag = "previews", params(("template" = String, Path), PreviewQuery),
    responses((status = 200, body = PreviewPool), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn warm_template(
    State(app): State<App>,
    caller: Caller,
    PathParams(template): PathParams<String>,
    QueryParams(query): QueryParams<PreviewQuery>,
) -> Result<Response, HttpError> {
    caller.about("pool");
    let template = app.previews.template(query.on.as_deref(), &template).await?;
    let started = app.keeper.warm(&template).await?;
    finish(&app, &query, &template, started).await
}

/// Removes a clone that was made ahead.
#[utoipa::path(
    delete, path = "/v1/previews/{template}/pool/{entry}", tag = "previews",
    params(("template" = String, Path), ("entry" = String, Path, example = "medusa_pr_pool_x0x0x0x0"), PreviewQuery),
    responses((status = 200, body = PreviewPool), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn drop_pool_entry(
    State(app): State<App>,
    caller: Caller,
    PathParams((template, entry)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<PreviewQuery>,
) -> Result<Response, HttpError> {
    caller.about("pool");
    let template = app.previews.template(query.on.as_deref(), &template).await?;
    let entry = app.previews.entry(&template, &entry).await?;
    let started = app.keeper.cool(&entry).await?;
    finish(&app, &query, &template, started).await
}

async fn finish(
    app: &App,
    query: &PreviewQuery,
    template: &TemplateRecord,
    started: Started,
) -> Result<Response, HttpError> {
    if !query.wait {
        return accepted(app, &started).await;
    }
    app.operations.finish(&started.id).await?;
    Ok(Json(app.previews.pool(template).await?).into_response())
}
