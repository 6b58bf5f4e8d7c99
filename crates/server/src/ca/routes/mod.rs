//! The certificate authority over HTTP.

mod show;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new().route(Rule::scope(Scope::InstancesRead), routes!(show::show_ca))
}
