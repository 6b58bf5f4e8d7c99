//! Who asks.

use super::error::HttpError;
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use pgdb_core::scope::{Scope, Scopes};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Who asks, and where a handler notes what the audit log has to know.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    actor: String,
    scopes: Scopes,
    remote: Option<IpAddr>,
    request_id: Arc<str>,
    notes: Mutex<Notes>,
}

/// What a handler noted.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) subject: Option<String>,
    pub(super) revealed: bool,
}

impl Caller {
    pub(super) fn new(actor: String, scopes: Scopes, remote: Option<IpAddr>, request_id: Arc<str>) -> Self {
        Self(Arc::new(Inner { actor, scopes, remote, request_id, notes: Mutex::default() }))
    }

    /// A token's id, or which bootstrap token.
    pub fn actor(&self) -> &str {
        &self.0.actor
    }

    /// What the token may do.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Where the request came from.
    pub fn remote(&self) -> Option<IpAddr> {
        self.0.remote
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Whether the token may do what a scope stands for.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.scopes.allow(scope)
    }

    /// Refuses unless the token has a scope beyond its route's.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) { Ok(()) } else { Err(missing(scope)) }
    }

    /// Notes what the request is about, such as `instance/mydb`.
    pub fn about(&self, subject: impl Into<String>) {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).subject = Some(subject.into());
    }

    /// Notes that the answer holds a secret: the audit log gets a row even for a GET.
    pub fn reveals(&self, subject: impl Into<String>) {
        let mut notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.subject = Some(subject.into());
        notes.revealed = true;
    }

    pub(super) fn notes(&self) -> Notes {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn missing(scope: Scope) -> Problem {
    Problem::forbidden(format!("this token lacks the scope {}", scope.as_str()))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal("an open route asked who its caller is").into())
    }
}
