//! What surrounds every request: its id, its log line, its numbers, the shape of its errors and safe headers.

use super::error::HttpError;
use super::state::App;
use crate::problem::Problem;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use pgdb_core::random::{self, Entropy};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What inner layers know about a request.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) app: App,
    pub(super) request_id: Arc<str>,
    pub(super) remote: Option<IpAddr>,
}

/// The outermost layer.
pub(super) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started_ms = app.clock.monotonic_ms();
    let request_id = accept_id(&request).unwrap_or_else(|| new_id(app.entropy.as_ref()));
    let remote =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_canonical());
    let template = request.extensions().get::<MatchedPath>().cloned();
    let template = template.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_label(request.method());
    request.extensions_mut().insert(Context { app: app.clone(), request_id: request_id.clone(), remote });

    // What only looks has its one line at the end; what changes something may have more to say on the way.
    let response = if method == "GET" {
        next.run(request).await
    } else {
        let span = tracing::info_span!("request", request_id = %request_id);
        next.run(request).instrument(span).await
    };
    let (mut response, error) = shape(response, &request_id);
    add_headers(&mut response, &request_id, template);

    let took_ms = app.clock.monotonic_ms().saturating_sub(started_ms);
    let status = response.status().as_u16();
    app.metrics.request_finished(template, method, status, took_ms);
    log(&request_id, (method, template), status, took_ms, remote, error.as_ref());
    response
}

/// Renders errors, whoever made them.
fn shape(mut response: Response, request_id: &str) -> (Response, Option<HttpError>) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return (response, None);
    }
    let error = response.extensions_mut().remove::<HttpError>().or_else(|| {
        // Not ours: axum's own refusals. Those of handlers, such as a readiness answer, have a JSON body.
        let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
        (!json).then(|| match status {
            StatusCode::NOT_FOUND => HttpError::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => HttpError::method_not_allowed(),
            _ => Problem::internal(format!("a layer answered {status} without a reason")).into(),
        })
    });
    let Some(error) = error else { return (response, None) };
    let mut rendered = error.render(request_id);
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        rendered.headers_mut().insert(header::ALLOW, allow);
    }
    (rendered, Some(error))
}

fn add_headers(response: &mut Response, request_id: &str, template: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let page = template == "/docs" || template.starts_with("/docs/");
    let policy = if page {
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}

/// One line a request. Neither its query nor its headers: both can hold secrets.
fn log(
    request_id: &str,
    (method, route): (&str, &str),
    status: u16,
    took_ms: u64,
    remote: Option<IpAddr>,
    error: Option<&HttpError>,
) {
    let remote = remote.map(tracing::field::display);
    let code = error.map(HttpError::code);
    let detail = error.and_then(HttpError::detail);
    let operation = error.and_then(HttpError::operation_id);
    if status >= 500 {
        tracing::error!(target: "pgdb::access", request_id, method, route, status, took_ms, remote, code, operation, detail, "request");
    } else if method == "GET" && status < 400 || matches!(route, "/healthz" | "/health" | "/liveness" | "/readiness") {
        // Dashboards and probes ask all the time; who looked at secrets is in the audit log.
        tracing::debug!(target: "pgdb::access", request_id, method, route, status, took_ms, remote, "request");
    } else {
        tracing::info!(target: "pgdb::access", request_id, method, route, status, took_ms, remote, code, operation, "request");
    }
}

/// A request id that came along, if it can stand in a log line and a header.
fn accept_id(request: &Request) -> Option<Arc<str>> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let sane = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    sane.then(|| Arc::from(text))
}

fn new_id(entropy: &dyn Entropy) -> Arc<str> {
    Arc::from(random::lower_alnum(entropy, 20))
}

/// Clients can make up methods; labels of metrics must not grow with them.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
