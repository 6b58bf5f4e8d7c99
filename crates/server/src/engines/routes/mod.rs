//! PostgreSQL installations over HTTP.

mod install;
mod list;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new()
        .route(Rule::scope(Scope::InstancesRead), routes!(list::list_engines))
        .route(Rule::scope(Scope::Admin).waits(), routes!(install::install_engine))
}
