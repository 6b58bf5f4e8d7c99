//! `POST /v1/migrations`.

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{LargeJsonBody, QueryParams};
use crate::http::state::App;
use crate::operations::routes::answer;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pgdb_api::migrations::{FILES_LIMIT, Rollout, RolloutQuery, RolloutRequest};
use pgdb_api::operations::Operation;

/// Brings databases of instances, a template and its previews up to date, in parallel, and tells what became of each. If
/// one could not be, the answer is the error `rollout_incomplete`, and the whole report is at
/// `/v1/migrations/{operation}`.
#[utoipa::path(
    post, path = "/v1/migrations", tag = "migrations", params(RolloutQuery), request_body = RolloutRequest,
    responses((status = 200, body = Rollout), (status = 202, body = Operation, description = "With `wait=false`."))
)]
pub(super) async fn roll_out(
    State(app): State<App>,
    caller: Caller,
    QueryParams(query): QueryParams<RolloutQuery>,
    LargeJsonBody(request): LargeJsonBody<RolloutRequest, FILES_LIMIT>,
) -> Result<Response, HttpError> {
    caller.about("migrations");
    let dry_run = request.dry_run;
    let wanted = app.migrations.check(request).await?;
    caller.about(wanted.subject());
    if dry_run {
        return Ok(Json(app.migrations.dry_run(&wanted).await?).into_response());
    }
    let started = app.migrations.start(wanted).await?;
    answer(&app, &started, query.wait, async || Ok(app.migrations.show(&started.id).await?)).await
}
