//! `POST /v1/engines/{major}/install`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{OptionalJsonBody, PathParams, QueryParams};
use crate::http::state::App;
use crate::operations::routes::answer;
use axum::extract::State;
use axum::response::Response;
use pgdb_api::engines::{EngineInfo, InstallEngine};
use pgdb_api::instances::WaitQuery;
use pgdb_api::operations::Operation;

/// Installs a PostgreSQL major: from an archive or folder on the daemon's machine, else from the system's packages.
#[utoipa::path(
    post, path = "/v1/engines/{major}/install", tag = "engines",
    params(("major" = u16, Path, minimum = 13, maximum = 18), WaitQuery), request_body = Option<InstallEngine>,
    responses((status = 200, body = EngineInfo), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn install_engine(
    State(app): State<App>,
    caller: Caller,
    PathParams(major): PathParams<u16>,
    QueryParams(query): QueryParams<WaitQuery>,
    OptionalJsonBody(request): OptionalJsonBody<InstallEngine>,
) -> Result<Response, HttpError> {
    caller.about(format!("engine/{major}"));
    let started = app.engines.start_install(major, request).await?;
    answer(&app, &started, query.wait, async || Ok(app.engines.of(major).await?)).await
}
