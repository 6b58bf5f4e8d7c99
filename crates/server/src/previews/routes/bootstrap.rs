//! `POST /v1/previews/bootstrap`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::JsonBody;
use crate::http::state::App;
use crate::templates::checks;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{BootstrapRequest, BootstrapResponse};

/// Makes or mends, with an administrator's rights, what previews need on the configured server: the operator, the dev
/// role, their rights and the template. Asked again it changes nothing. The URL is not kept.
#[utoipa::path(
    post, path = "/v1/previews/bootstrap", tag = "previews", request_body = BootstrapRequest,
    responses((status = 200, body = BootstrapResponse))
)]
pub(super) async fn bootstrap_previews(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<BootstrapRequest>,
) -> Result<Json<BootstrapResponse>, HttpError> {
    caller.about("previews");
    let url = checks::url("admin_url", &request.admin_url)?;
    Ok(Json(BootstrapResponse { changed: app.previews.bootstrap(&url).await? }))
}
