//! `GET /v1/previews/{template}/{number}`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::previews::checks;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{OnQuery, Preview};

/// One preview, with its role's password; that is written to the audit log.
#[utoipa::path(
    get, path = "/v1/previews/{template}/{number}", tag = "previews",
    params(("template" = String, Path), ("number" = String, Path, pattern = "^[1-9][0-9]{0,9}$"), OnQuery),
    responses((status = 200, body = Preview))
)]
pub(super) async fn show_preview(
    State(app): State<App>,
    caller: Caller,
    PathParams((template, number)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<OnQuery>,
) -> Result<Json<Preview>, HttpError> {
    let place = app.previews.place(query.on.as_deref(), Some(&template), checks::digits(&number)?).await?;
    let preview = app.previews.show(&place).await?;
    caller.reveals(place.subject());
    Ok(Json(preview))
}
