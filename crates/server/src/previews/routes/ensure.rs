//! `POST /v1/preview-db/ensure`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{JsonBody, QueryParams};
use crate::http::state::App;
use crate::operations::routes::accepted;
use crate::previews::checks;
use crate::previews::service::Progress;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::operations::Operation;
use pgdb_api::previews::{EnsurePreview, EnsuredPreview, PreviewDbQuery};

/// Sees to it that the database of a pull request is there, and answers with its role and the role's password. Asked
/// again, the answer is the same with `created: false`.
#[utoipa::path(
    post, path = "/v1/preview-db/ensure", tag = "previews", params(PreviewDbQuery), request_body = EnsurePreview,
    responses(
        (status = 200, body = EnsuredPreview),
        (status = 202, body = Operation, description = "With `wait=false`, where something has to be done.")
    )
)]
pub(super) async fn ensure_preview(
    State(app): State<App>,
    caller: Caller,
    QueryParams(query): QueryParams<PreviewDbQuery>,
    JsonBody(request): JsonBody<EnsurePreview>,
) -> Result<Response, HttpError> {
    caller.about("preview");
    checks::disabled_fields(&request)?;
    let wanted = checks::wanted(&request)?;
    let place = app
        .previews
        .place_to_make(query.on.as_deref(), query.template.as_deref(), checks::number(&request.pr_number)?)
        .await?;
    caller.about(place.subject());
    match app.previews.ensure(&place, &wanted, query.wait).await? {
        Progress::Done(answer) => Ok(Json(answer).into_response()),
        Progress::Started(started) => accepted(&app, &started).await,
    }
}
