//! `/docs`: the API in a browser, with Swagger UI from this binary; nothing is fetched from elsewhere.

use super::error::HttpError;
use super::routes::Routes;
use super::rule::Rule;
use crate::problem::Problem;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa_swagger_ui::Config;

/// The page and its parts. A browser has no bearer token, so HTTP Basic with the token as password does as well.
pub(super) fn routes() -> Routes {
    let config = Arc::new(Config::from("/openapi.json"));
    let (index, rest) = (Arc::clone(&config), config);
    Routes::new()
        .page(Rule::browser(), "/docs", get(|| async { Redirect::permanent("/docs/") }))
        .page(Rule::browser(), "/docs/", get(move || async move { file("", index) }))
        .page(Rule::browser(), "/docs/{*file}", get(move |Path(path): Path<String>| async move { file(&path, rest) }))
}

fn file(path: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => {
            let mut response = ([(header::CONTENT_TYPE, file.content_type)], file.bytes.to_vec()).into_response();
            if file.gzpipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(None) => HttpError::not_found().into_response(),
        Err(error) => HttpError::from(Problem::internal(error.to_string())).into_response(),
    }
}
