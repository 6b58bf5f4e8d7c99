//! The whole router: every capability's routes and the layers around them.

use super::error::HttpError;
use super::observe::observe;
use super::routes::Routes;
use super::rule::Rule;
use super::state::App;
use super::{docs, openapi};
use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// Every capability's routes. A new capability adds itself here.
fn capabilities() -> Routes {
    Routes::new()
        .merge(crate::health::routes::routes())
        .merge(crate::admin::routes::routes())
        .merge(crate::instances::routes::routes())
        .merge(crate::operations::routes::routes())
        .merge(crate::engines::routes::routes())
        .merge(crate::tokens::routes::routes())
        .merge(crate::audit::routes::routes())
        .merge(crate::secrets::routes::routes())
        .merge(crate::ca::routes::routes())
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    OpenApiRouter::with_openapi(openapi::frame()).merge(capabilities().into_inner()).into_openapi()
}

/// The router with the whole middleware stack.
///
/// From the outside in: [`observe`] (request id, log line, numbers, shape of errors, headers), then for each route
/// its guard (token, scope, time limit, panics, audit log) and the limit of its body.
pub fn router(app: App) -> Router {
    let mut routes = capabilities().merge(docs::routes());
    let document: Bytes = document().to_json().unwrap_or_default().into();
    let document = get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) });
    routes = routes.page(Rule::open(), "/openapi.json", document);
    if app.config.metrics {
        routes = routes.merge(super::metrics::routes());
    }
    Router::from(routes.into_inner())
        .fallback(|| async { HttpError::not_found() })
        .method_not_allowed_fallback(|| async { HttpError::method_not_allowed() })
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}
