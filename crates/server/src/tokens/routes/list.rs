//! `GET /v1/tokens`.

use crate::http::error::HttpError;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::tokens::TokensResponse;

/// All tokens, revoked and expired ones too, without their texts.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = 200, body = TokensResponse)))]
pub(super) async fn list_tokens(State(app): State<App>) -> Result<Json<TokensResponse>, HttpError> {
    Ok(Json(TokensResponse { items: app.tokens.list().await? }))
}
