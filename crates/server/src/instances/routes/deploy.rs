//! `POST /v1/deploy`.

use super::view::host;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{OptionalJsonBody, QueryParams};
use crate::http::state::App;
use crate::instances::record::subject;
use crate::operations::routes::answer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pgdb_api::instances::{DeployRequest, Deployment, WaitQuery};
use pgdb_api::operations::Operation;

/// Makes a PostgreSQL server with a database and a role of its own, and answers once it can be logged in to.
#[utoipa::path(
    post, path = "/v1/deploy", tag = "instances", params(WaitQuery), request_body = Option<DeployRequest>,
    responses((status = 200, body = Deployment), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn deploy(
    State(app): State<App>,
    caller: Caller,
    QueryParams(query): QueryParams<WaitQuery>,
    headers: HeaderMap,
    OptionalJsonBody(request): OptionalJsonBody<DeployRequest>,
) -> Result<Response, HttpError> {
    caller.about("instance");
    let (started, name) = app.instances.start_deploy(request).await?;
    caller.about(subject(&name));
    let host = host(&headers);
    answer(&app, &started, query.wait, async || Ok(app.instances.deployment(&name, &host).await?)).await
}
