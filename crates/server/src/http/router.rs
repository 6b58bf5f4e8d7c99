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
        .merge(crate::previews::routes::routes())
        .merge(crate::templates::routes::routes())
        .merge(crate::migrations::routes::routes())
        .merge(crate::operations::routes::routes())
        .merge(crate::engines::routes::routes())
        .merge(crate::tokens::routes::routes())
        .merge(crate::audit::routes::routes())
        .merge(crate::secrets::routes::routes())
        .merge(crate::ca::routes::routes())
        .merge(super::metrics::routes())
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    OpenApiRouter::with_openapi(openapi::frame()).merge(capabilities().into_inner()).into_openapi()
}

/// The router with the whole middleware stack.
///
/// From the outside in: `observe` (request id, log line, numbers, shape of errors, headers), then for each route
/// its guard (token, scope, time limit, panics, audit log) and the limit of its body.
pub fn router(app: App) -> Router {
    let mut routes = capabilities().merge(docs::routes());
    let document: Bytes = document().to_json().unwrap_or_default().into();
    let document = get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) });
    routes = routes.page(Rule::open(), "/openapi.json", document);
    assemble(app, routes)
}

fn assemble(app: App, routes: Routes) -> Router {
    Router::from(routes.into_inner())
        .fallback(|| async { HttpError::not_found() })
        .method_not_allowed_fallback(|| async { HttpError::method_not_allowed() })
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvSecrets, Options, Surroundings};
    use crate::system::{SystemClock, SystemEntropy};
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::sync::Arc;
    use tower::ServiceExt;

    async fn panics() -> &'static str {
        panic!("the secret reason")
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_tells_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let options = Options { data_dir: Some(folder.path().to_owned()), ..Options::default() };
        let secrets = EnvSecrets::default();
        let config = Arc::new(options.resolve(&secrets, &Surroundings::of_this_process()?)?);
        let outside = (Arc::new(SystemClock::default()) as Arc<_>, Arc::new(SystemEntropy) as Arc<_>);
        let app = crate::daemon::open(config, &secrets, outside).await?;
        let token = std::fs::read_to_string(folder.path().join("token"))?;
        let routes = Routes::new().page(Rule::any_token(), "/v1/panics", get(panics).post(panics));
        let router = assemble(app, routes);
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri("/v1/panics");
            let request = request.header("authorization", format!("Bearer {token}")).body(Body::empty())?;
            let response = router.clone().oneshot(request).await?;
            assert_eq!(response.status().as_u16(), 500);
            let body = to_bytes(response.into_body(), 4096).await?;
            let body: pgdb_api::errors::ErrorBody = serde_json::from_slice(&body)?;
            assert_eq!(body.error, "internal");
            assert!(!body.message.contains("secret") && !body.request_id.is_empty());
        }
        Ok(())
    }
}
