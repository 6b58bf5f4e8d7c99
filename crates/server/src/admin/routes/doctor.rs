//! `GET /v1/doctor`.

use crate::doctor;
use crate::http::error::HttpError;
use crate::http::state::App;
use axum::Json;
use axum::extract::State;
use pgdb_api::admin::DoctorReport;

/// What is wrong with this machine or our state, each finding with what to do about it.
#[utoipa::path(get, path = "/v1/doctor", tag = "admin", responses((status = 200, body = DoctorReport)))]
pub(super) async fn report(State(app): State<App>) -> Result<Json<DoctorReport>, HttpError> {
    Ok(Json(doctor::report(&app.instances.world, &app.previews, &app.config.data_dir).await?))
}
