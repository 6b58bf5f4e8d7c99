//! The audit log over HTTP.

mod list;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new().route(Rule::scope(Scope::AuditRead), routes!(list::list_audit))
}
