//! `POST /v1/shutdown`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::JsonBody;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pgdb_api::admin::Shutdown;
use pgdb_api::health::Health;

/// Ends the daemon. The answer comes before the end; requests that are under way are given ten seconds.
#[utoipa::path(
    post, path = "/v1/shutdown", tag = "admin", request_body = Shutdown, responses((status = 202, body = Health))
)]
pub(super) async fn shutdown(
    State(app): State<App>,
    caller: Caller,
    JsonBody(wanted): JsonBody<Shutdown>,
) -> Result<(StatusCode, Json<Health>), HttpError> {
    caller.about("daemon");
    app.shut_down(wanted.stop_databases);
    Ok((StatusCode::ACCEPTED, Json(Health { ok: true })))
}
