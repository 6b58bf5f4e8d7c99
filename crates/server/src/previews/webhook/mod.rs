//! What GitHub tells of pull requests: a preview comes with a pull request and goes with it.
//!
//! `signature` and `event` are pure: is it GitHub, and what does it say; `receive` is the route.

mod event;
mod receive;
mod signature;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use utoipa_axum::routes;

/// GitHub's own limit of a delivery.
const BODY_LIMIT: usize = 25 << 20;

/// The route.
pub(super) fn routes() -> Routes {
    Routes::new().route(Rule::signed().body_limit(BODY_LIMIT), routes!(receive::github_webhook))
}
