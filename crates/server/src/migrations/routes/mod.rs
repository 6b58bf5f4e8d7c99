//! Migrations over HTTP.

mod rollout;
mod show;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_api::migrations::FILES_LIMIT;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    let rule = || Rule::scope(Scope::Migrations);
    Routes::new()
        .route(rule().waits().body_limit(FILES_LIMIT), routes!(rollout::roll_out))
        .route(rule(), routes!(show::show_rollout))
}
