//! The routes that load balancers and people ask without a token.

mod live;
mod readiness;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    Routes::new()
        .route(Rule::open(), routes!(live::healthz))
        .route(Rule::open(), routes!(live::health))
        .route(Rule::open(), routes!(live::liveness))
        .route(Rule::open(), routes!(readiness::readiness))
}
