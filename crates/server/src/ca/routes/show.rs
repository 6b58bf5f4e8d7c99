//! `GET /v1/ca`.

use crate::ca::Ca;
use crate::http::error::HttpError;
use crate::http::state::App;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::{HeaderName, header};

/// The certificate that clients of databases with TLS trust (`sslrootcert`), as PEM.
#[utoipa::path(
    get, path = "/v1/ca", tag = "admin",
    responses((status = 200, body = String, content_type = "application/x-pem-file"))
)]
pub(super) async fn show_ca(State(app): State<App>) -> Result<([(HeaderName, &'static str); 1], String), HttpError> {
    let pem = tokio::task::spawn_blocking(move || {
        Ca::open(&app.config.data_dir, app.clock.now(), app.entropy.as_ref()).map(|ca| ca.pem().to_owned())
    })
    .await
    .map_err(|error| Problem::internal(format!("the CA's task ended: {error}")))?
    .map_err(Problem::from)?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem))
}
