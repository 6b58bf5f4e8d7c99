//! `DELETE /v1/preview-db/{pr_number}`.

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
use pgdb_api::previews::{DeletedPreview, PreviewDbQuery};

/// Ends the sessions of a pull request's database and removes it with its role. Where there is none, that is fine.
#[utoipa::path(
    delete, path = "/v1/preview-db/{pr_number}", tag = "previews",
    params(("pr_number" = String, Path, pattern = "^[1-9][0-9]{0,9}$", example = "123"), PreviewDbQuery),
    responses(
        (status = 200, body = DeletedPreview),
        (status = 202, body = Operation, description = "With `wait=false`, where something has to be done.")
    )
)]
pub(super) async fn delete_preview(
    State(app): State<App>,
    caller: Caller,
    PathParams(number): PathParams<String>,
    QueryParams(query): QueryParams<PreviewDbQuery>,
) -> Result<Response, HttpError> {
    caller.about("preview");
    let number = checks::digits(&number)?;
    let place = match app.previews.place_to_delete(query.on.as_deref(), query.template.as_deref(), number).await? {
        Ok(place) => place,
        Err(nothing) => return Ok(Json(nothing).into_response()),
    };
    caller.about(place.subject());
    match app.previews.delete(&place, query.wait).await? {
        Progress::Done(answer) => Ok(Json(answer).into_response()),
        Progress::Started(started) => accepted(&app, &started).await,
    }
}
