//! `POST /v1/previews/{template}/{number}/extend`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{JsonBody, PathParams, QueryParams};
use crate::http::state::App;
use crate::previews::checks;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{ExtendPreview, OnQuery, Preview};

/// Sets how long a preview lives from now on.
#[utoipa::path(
    post, path = "/v1/previews/{template}/{number}/extend", tag = "previews",
    params(("template" = String, Path), ("number" = String, Path, pattern = "^[1-9][0-9]{0,9}$"), OnQuery),
    request_body = ExtendPreview, responses((status = 200, body = Preview))
)]
pub(super) async fn extend_preview(
    State(app): State<App>,
    caller: Caller,
    PathParams((template, number)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<OnQuery>,
    JsonBody(request): JsonBody<ExtendPreview>,
) -> Result<Json<Preview>, HttpError> {
    caller.about("preview");
    let place = app.previews.place(query.on.as_deref(), Some(&template), checks::digits(&number)?).await?;
    caller.about(place.subject());
    Ok(Json(app.previews.extend(&place, checks::ttl(&request.ttl)?).await?))
}
