//! `GET /v1/previews`.

use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{PreviewListQuery, PreviewsResponse};

/// Every preview, without passwords.
#[utoipa::path(
    get, path = "/v1/previews", tag = "previews", params(PreviewListQuery), responses((status = 200, body = PreviewsResponse))
)]
pub(super) async fn list_previews(
    State(app): State<App>,
    QueryParams(query): QueryParams<PreviewListQuery>,
) -> Result<Json<PreviewsResponse>, HttpError> {
    let (on, template) = (query.on.as_deref(), query.template.as_deref());
    let items = app.previews.list(on, template).await?;
    Ok(Json(PreviewsResponse { items, pools: app.previews.pools(on, template).await? }))
}
