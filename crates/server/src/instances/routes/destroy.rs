//! `DELETE /v1/db/{name}`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::instances::record::subject;
use crate::operations::routes::answer;
use axum::extract::State;
use axum::response::Response;
use pgdb_api::instances::{DestroyQuery, Holds, Ok as Done};
use pgdb_api::operations::Operation;
use serde::Deserialize;

/// Stops an instance and removes it with its data, or keeps its data under its volume name. The records of previews and
/// templates on it go with it; while one of these previews is protected, or one of
/// these templates is locked, it is refused with 423.
#[utoipa::path(
    delete, path = "/v1/db/{name}", tag = "instances", params(("name" = String, Path), DestroyQuery),
    responses((status = 200, body = Done), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn destroy(
    State(app): State<App>,
    caller: Caller,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<DestroyQuery>,
) -> Result<Response, HttpError> {
    caller.about(subject(&name));
    let started = app.instances.start_destroy(&name, query.keep_data).await?;
    answer(&app, &started, query.wait, async || {
        let operation = app.operations.get(&started.id).await?;
        let kept = operation.steps.iter().find_map(|step| step.output["volume"].as_str());
        let held = operation.steps.iter().find_map(|step| Holds::deserialize(&step.output["held"]).ok());
        Ok(Done { ok: true, volume_name: kept.map(str::to_owned), held })
    })
    .await
}
