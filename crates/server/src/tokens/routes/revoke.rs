//! `DELETE /v1/tokens/{id}`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use crate::tokens::service::unknown;
use axum::Json;
use axum::extract::State;
use pgdb_api::tokens::TokenInfo;
use pgdb_core::id::TokenId;

/// Makes a token stop working at once. Doing it again changes nothing.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "`tk_…`")),
    responses((status = 200, body = TokenInfo))
)]
pub(super) async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> Result<Json<TokenInfo>, HttpError> {
    let id = TokenId::parse(&id).ok_or_else(unknown)?;
    caller.about(format!("token/{id}"));
    Ok(Json(app.tokens.revoke(&id, app.clock.as_ref()).await?))
}
