//! `POST /v1/keys/rotate`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::state::App;
use crate::secrets::SEALED_COLUMNS;
use axum::Json;
use axum::extract::State;
use pgdb_api::admin::KeyRotated;
use std::time::Duration;

/// After this long nothing that was sealed with the old key can still be on its way to the state file.
const SETTLE_AFTER: Duration = Duration::from_secs(60);

/// Makes a new master key and seals every stored secret with it.
#[utoipa::path(post, path = "/v1/keys/rotate", tag = "admin", responses((status = 200, body = KeyRotated)))]
pub(super) async fn rotate_keys(State(app): State<App>, caller: Caller) -> Result<Json<KeyRotated>, HttpError> {
    caller.about("keys/master");
    let rotated = app.sealer.rotate(&app.store, &app.entropy, SEALED_COLUMNS).await?;
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(SETTLE_AFTER) => {}
            // The next start settles it.
            () = app.shutdown.cancelled() => return,
        }
        if let Err(problem) = app.sealer.settle(&app.store, &app.entropy, SEALED_COLUMNS).await {
            tracing::warn!(%problem, "the old master key could not be dropped yet; the next start tries again");
        }
    });
    Ok(Json(KeyRotated { key_id: rotated.key_id, resealed: rotated.resealed }))
}
