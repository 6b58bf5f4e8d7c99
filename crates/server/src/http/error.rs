//! The one place that turns problems into HTTP.

use crate::problem::{Problem, ProblemKind};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdb_api::errors::ErrorBody;
use std::sync::Arc;
use std::time::Duration;

/// What a client is told about our own faults; the log has the rest.
const INTERNAL: &str = "something went wrong inside pgdb; the daemon's log tells more under this request id";

/// An error on its way out. `http::observe` renders it, because it knows the request's id.
#[derive(Debug, Clone)]
pub struct HttpError(Arc<Failure>);

/// What is known of an error.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    operation_id: Option<String>,
    retry_after: Option<Duration>,
    header: Option<(HeaderName, HeaderValue)>,
    /// For the log alone.
    detail: Option<String>,
}

impl HttpError {
    /// An error of HTTP itself; those of capabilities come from a [`Problem`].
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Arc::new(Failure {
            status,
            code,
            message: message.into(),
            operation_id: None,
            retry_after: None,
            header: None,
            detail: None,
        }))
    }

    fn change(mut self, change: impl FnOnce(&mut Failure)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(super) fn retry_after(self, after: Duration) -> Self {
        self.change(|failure| failure.retry_after = Some(after))
    }

    pub(super) fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.change(|failure| failure.header = Some((name, value)))
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What the log says and the client does not get to know.
    pub(super) fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The operation that failed or stands in the way.
    pub(super) fn operation_id(&self) -> Option<&str> {
        self.0.operation_id.as_deref()
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "route_not_found", "no such route; GET /openapi.json lists all of them")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this route does not take this method; the Allow header lists those that it takes",
        )
    }

    /// A delivery whose signature is missing or not ours.
    pub(crate) fn invalid_signature(why: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_signature", why)
    }

    /// A body of a type that the route does not read.
    pub(crate) fn unsupported_media_type(message: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn timeout(after: Duration) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the request did not end within {} seconds", after.as_secs()),
        )
    }

    /// The response in full.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let failure = &*self.0;
        let body = ErrorBody {
            error: failure.code.to_owned(),
            message: failure.message.clone(),
            request_id: request_id.to_owned(),
            operation_id: failure.operation_id.clone(),
        };
        let mut response = (failure.status, Json(body)).into_response();
        if let Some(after) = failure.retry_after {
            // Rounded up: who comes back too early is refused again.
            let seconds = after.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        if let Some((name, value)) = &failure.header {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

impl From<Problem> for HttpError {
    fn from(problem: Problem) -> Self {
        let status = match problem.kind {
            ProblemKind::Invalid => StatusCode::BAD_REQUEST,
            ProblemKind::Forbidden => StatusCode::FORBIDDEN,
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::Conflict => StatusCode::CONFLICT,
            ProblemKind::Locked => StatusCode::LOCKED,
            ProblemKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            ProblemKind::Upstream => StatusCode::BAD_GATEWAY,
            ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let busy = status == StatusCode::SERVICE_UNAVAILABLE;
        let internal = problem.kind == ProblemKind::Internal;
        let (message, detail) =
            if internal { (INTERNAL.to_owned(), Some(problem.message)) } else { (problem.message, None) };
        Self(Arc::new(Failure {
            status,
            code: problem.code,
            message,
            operation_id: problem.operation_id,
            retry_after: problem.retry_after.or(busy.then_some(Duration::from_secs(1))),
            header: None,
            detail,
        }))
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
