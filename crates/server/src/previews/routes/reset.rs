//! `POST /v1/previews/{template}/{number}/reset`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::operations::routes::accepted;
use crate::previews::checks;
use crate::previews::service::Progress;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::operations::Operation;
use pgdb_api::previews::{Preview, PreviewQuery};

/// Throws away what a preview holds and makes it anew from its template, with the same role and password.
#[utoipa::path(
    post, path = "/v1/previews/{template}/{number}/reset", tag = "previews",
    params(("template" = String, Path), ("number" = String, Path, pattern = "^[1-9][0-9]{0,9}$"), PreviewQuery),
    responses((status = 200, body = Preview), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn reset_preview(
    State(app): State<App>,
    caller: Caller,
    PathParams((template, number)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<PreviewQuery>,
) -> Result<Response, HttpError> {
    caller.about("preview");
    let place = app.previews.place(query.on.as_deref(), Some(&template), checks::digits(&number)?).await?;
    caller.about(place.subject());
    match app.previews.reset(&place, query.wait).await? {
        Progress::Done(preview) => Ok(Json(preview).into_response()),
        Progress::Started(started) => accepted(&app, &started).await,
    }
}
