//! Tokens over HTTP.

mod create;
mod list;
mod revoke;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new()
        .route(Rule::scope(Scope::Admin), routes!(create::create_token, list::list_tokens))
        .route(Rule::scope(Scope::Admin), routes!(revoke::revoke_token))
}
