//! `GET /v1/previews/orphans` and `POST /v1/previews/gc`.

use crate::config::OrphanPolicy;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use crate::previews::orphans::Treatment;
use axum::Json;
use axum::extract::State;
use pgdb_api::previews::{GcQuery, OnQuery, OrphansResponse};

/// What no record accounts for, and records that nothing accounts for.
#[utoipa::path(
    get, path = "/v1/previews/orphans", tag = "previews", params(OnQuery),
    responses((status = 200, body = OrphansResponse))
)]
pub(super) async fn list_orphans(
    State(app): State<App>,
    QueryParams(query): QueryParams<OnQuery>,
) -> Result<Json<OrphansResponse>, HttpError> {
    let server = app.previews.world.server(query.on.as_deref()).await?;
    Ok(Json(OrphansResponse { items: app.keeper.orphans(&server, Treatment::List).await? }))
}

/// Removes what no record accounts for, and records that nothing accounts for; where `PGDB_PREVIEW_ORPHANS` is `adopt`,
/// databases that can be used get a record instead. Folders are only ever reported.
#[utoipa::path(
    post, path = "/v1/previews/gc", tag = "previews", params(GcQuery), responses((status = 200, body = OrphansResponse))
)]
pub(super) async fn collect_orphans(
    State(app): State<App>,
    caller: Caller,
    QueryParams(query): QueryParams<GcQuery>,
) -> Result<Json<OrphansResponse>, HttpError> {
    caller.about("previews");
    let server = app.previews.world.server(query.on.as_deref()).await?;
    let policy = match app.config.previews.orphans {
        OrphanPolicy::Adopt => OrphanPolicy::Adopt,
        // Whoever asks for it wants it done.
        OrphanPolicy::Report | OrphanPolicy::Remove => OrphanPolicy::Remove,
    };
    let treatment = if query.dry_run { Treatment::Plan(policy) } else { Treatment::Apply(policy) };
    Ok(Json(OrphansResponse { items: app.keeper.orphans(&server, treatment).await? }))
}
