//! `POST /v1/db/{name}/rotate-password`.

use super::view::host;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::instances::record::subject;
use crate::operations::routes::answer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pgdb_api::instances::{Deployment, WaitQuery};
use pgdb_api::operations::Operation;
use pgdb_core::scope::Scope;

/// Gives an instance's role a new password, which the answer holds. Open sessions go on. Needs the scope
/// `instances:reveal` as well.
#[utoipa::path(
    post, path = "/v1/db/{name}/rotate-password", tag = "instances", params(("name" = String, Path), WaitQuery),
    responses((status = 200, body = Deployment), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn rotate_password(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    caller.about(subject(&name));
    caller.require(Scope::InstancesReveal)?;
    let started = app.instances.start_rotate_password(&name).await?;
    let host = host(&headers);
    answer(&app, &started, query.wait, async || Ok(app.instances.deployment(&name, &host).await?)).await
}
