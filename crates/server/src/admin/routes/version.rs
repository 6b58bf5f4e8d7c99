//! `GET /v1/version`.

use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::health::Version;

/// Which pgdb this is and what it works on.
#[utoipa::path(get, path = "/v1/version", tag = "admin", responses((status = 200, body = Version)))]
pub(super) async fn version(State(app): State<App>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: app.config.data_dir.display().to_string(),
        pid: std::process::id(),
    })
}
