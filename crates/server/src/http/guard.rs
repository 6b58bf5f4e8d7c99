//! What stands before every handler: who asks, may they, how long may it take, and the row in the audit log.

use super::caller::{Caller, missing};
use super::error::HttpError;
use super::observe::Context;
use super::rule::{Access, Rule};
use crate::audit::Record;
use crate::problem::Problem;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use pgdb_core::scope::Scopes;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tracing::Instrument;
use zeroize::Zeroizing;

/// The actor of signed requests: GitHub alone sends them.
const SIGNER: &str = "github";

/// Runs a handler if its rule lets the caller in.
///
/// What may change something runs in a task of its own, so that a client that disconnects neither stops it half
/// way nor keeps it out of the audit log.
pub(super) async fn guard(rule: Rule, mut request: Request, next: Next) -> Response {
    let Some(context) = request.extensions().get::<Context>().cloned() else {
        return HttpError::from(Problem::internal("the middleware stack is incomplete")).into_response();
    };
    let path = request.uri().path();
    let caller = match admit(rule.access, &context, request.headers(), path) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let Some(caller) = caller else { return run(rule, context.app.time_limit, request, next).await };
    if let Access::Scope(scope) = rule.access
        && !caller.may(scope)
    {
        let response = HttpError::from(missing(scope)).into_response();
        let template = request.extensions().get::<MatchedPath>().cloned();
        record(&context, &caller, template.as_ref(), Outcome::of(&response), request.method()).await;
        return response;
    }
    let (template, method) = (request.extensions().get::<MatchedPath>().cloned(), request.method().clone());
    request.extensions_mut().insert(caller.clone());
    let requests = context.app.requests.clone();
    let changes = !matches!(method, Method::GET | Method::HEAD);
    let work = async move {
        let response = run(rule, context.app.time_limit, request, next).await;
        if rule.access != Access::Signed || caller.notes().subject.is_some() {
            record(&context, &caller, template.as_ref(), Outcome::of(&response), &method).await;
        }
        response
    };
    if !changes {
        return work.await;
    }
    match requests.spawn(work.in_current_span()).await {
        Ok(response) => response,
        Err(error) => HttpError::from(Problem::internal(format!("a request's task ended: {error}"))).into_response(),
    }
}

/// Runs the handler within its time; a panic is our own fault, not the end of the connection.
async fn run(rule: Rule, limit: Duration, request: Request, next: Next) -> Response {
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    let outcome = if rule.waits { Ok(handler.await) } else { tokio::time::timeout(limit, handler).await };
    match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            HttpError::from(Problem::internal(format!("a handler panicked: {text}"))).into_response()
        }
        Err(_) => HttpError::timeout(limit).into_response(),
    }
}

/// Who asks; `None` on an open route.
fn admit(access: Access, context: &Context, headers: &HeaderMap, path: &str) -> Result<Option<Caller>, HttpError> {
    if access == Access::Open {
        return Ok(None);
    }
    if access == Access::Signed {
        return Ok(Some(caller(context, SIGNER.to_owned(), Scopes::default())));
    }
    let app = &context.app;
    let basic = access == Access::Browser;
    let Some(token) = presented(headers, path, basic) else { return Err(unauthorized(basic, "a token is needed")) };
    let now_ms = app.clock.monotonic_ms();
    match app.tokens.verify(&token, app.clock.as_ref()) {
        // A weak token could be found by guessing, so a guesser must not learn that it was right.
        Some(identity) if !identity.strong => {
            if let Some(wait) = app.limiter.blocked(context.remote, now_ms) {
                return Err(too_many(wait));
            }
            Ok(Some(caller(context, identity.actor, identity.scopes)))
        }
        Some(identity) => Ok(Some(caller(context, identity.actor, identity.scopes))),
        None => match app.limiter.fail(context.remote, now_ms) {
            Some(wait) => Err(too_many(wait)),
            None => Err(unauthorized(basic, "the token is unknown, expired or revoked")),
        },
    }
}

fn caller(context: &Context, actor: String, scopes: Scopes) -> Caller {
    Caller::new(actor, scopes, context.remote, context.request_id.clone())
}

/// The token that a request carries.
fn presented(headers: &HeaderMap, path: &str, basic: bool) -> Option<Zeroizing<String>> {
    if let Some((scheme, rest)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().split_once(' '))
    {
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Zeroizing::new(rest.trim().to_owned()));
        }
        if basic && scheme.eq_ignore_ascii_case("basic") {
            let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
            let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
            return Some(Zeroizing::new(password.to_owned()));
        }
    }
    let internal = path == "/internal" || path.starts_with("/internal/");
    let key = headers.get("x-internal-key").filter(|_| internal)?;
    Some(Zeroizing::new(key.to_str().ok()?.trim().to_owned()))
}

fn unauthorized(basic: bool, why: &str) -> HttpError {
    let challenge = if basic { "Basic realm=\"pgdb\", charset=\"UTF-8\"" } else { "Bearer realm=\"pgdb\"" };
    let hint = if basic { "any user name, with the token as its password" } else { "Authorization: Bearer TOKEN" };
    HttpError::new(StatusCode::UNAUTHORIZED, "unauthorized", format!("{why}; send {hint}"))
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn too_many(wait: Duration) -> HttpError {
    HttpError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_failed_logins",
        "too many wrong tokens came from this address; wait, then try again",
    )
    .retry_after(wait)
}

/// How a request ended.
struct Outcome {
    status: u16,
    error: Option<&'static str>,
}

impl Outcome {
    fn of(response: &Response) -> Self {
        let error = response.extensions().get::<HttpError>().map(HttpError::code);
        Self { status: response.status().as_u16(), error }
    }
}

/// Puts a row into the audit log for what changed something or gave a secret out.
async fn record(context: &Context, caller: &Caller, template: Option<&MatchedPath>, outcome: Outcome, method: &Method) {
    let notes = caller.notes();
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if !changes && !notes.revealed {
        return;
    }
    context
        .app
        .audit
        .record(Record {
            at: context.app.clock.now(),
            actor: caller.actor().to_owned(),
            remote: context.remote.map_or_else(|| "unknown".to_owned(), |remote| remote.to_string()),
            action: format!("{method} {}", template.map_or("", MatchedPath::as_str)),
            subject: notes.subject.unwrap_or_else(|| "daemon".to_owned()),
            status: outcome.status,
            error: outcome.error,
            request_id: context.request_id.to_string(),
        })
        .await;
}
