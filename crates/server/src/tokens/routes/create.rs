//! `POST /v1/tokens`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::JsonBody;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pgdb_api::tokens::{CreateToken, CreatedToken};

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 201, body = CreatedToken))
)]
pub(super) async fn create_token(
    State(app): State<App>,
    caller: Caller,
    JsonBody(wanted): JsonBody<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), HttpError> {
    caller.about("token");
    let created = app.tokens.create(caller.scopes(), wanted, app.clock.as_ref(), app.entropy.as_ref()).await?;
    caller.about(format!("token/{}", created.info.id));
    Ok((StatusCode::CREATED, Json(created)))
}
