//! The daemon itself over HTTP.

mod doctor;
mod shutdown;
mod version;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new()
        .route(Rule::any_token(), routes!(version::version))
        .route(Rule::scope(Scope::InstancesRead), routes!(doctor::report))
        .route(Rule::scope(Scope::Admin), routes!(shutdown::shutdown))
}
