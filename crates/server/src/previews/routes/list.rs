//! `GET /v1/previews`.

use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{OnQuery, PreviewsResponse};

/// Every preview, without passwords.
#[utoipa::path(
    get, path = "/v1/previews", tag = "previews", params(OnQuery), responses((status = 200, body = PreviewsResponse))
)]
pub(super) async fn list_previews(
    State(app): State<App>,
    QueryParams(query): QueryParams<OnQuery>,
) -> Result<Json<PreviewsResponse>, HttpError> {
    let on = query.on.as_deref();
    Ok(Json(PreviewsResponse { items: app.previews.list(on).await?, pools: app.previews.pools(on).await? }))
}
