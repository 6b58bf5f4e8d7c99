//! What a route asks of its callers. A route cannot be added without one.

use super::extract::BODY_LIMIT;
use pgdb_core::scope::Scope;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody.
    Open,
    /// Whoever signs the body with a secret that the handler knows; the handler checks it and names a subject, and what
    /// has none is not written down.
    Signed,
    /// Whoever has a valid token.
    AnyToken,
    /// The same, also as HTTP Basic, so that a browser can open it.
    Browser,
    /// Whoever has a valid token with this scope.
    Scope(Scope),
}

/// What a route asks of its callers, and what it is allowed to do.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Rule {
    pub(super) access: Access,
    pub(super) waits: bool,
    pub(super) streams: bool,
    pub(super) body_limit: usize,
}

impl Rule {
    fn new(access: Access) -> Self {
        Self { access, waits: false, streams: false, body_limit: BODY_LIMIT }
    }

    /// Needs a token with a scope.
    pub fn scope(scope: Scope) -> Self {
        Self::new(Access::Scope(scope))
    }

    /// Needs a token, whatever its scopes.
    pub fn any_token() -> Self {
        Self::new(Access::AnyToken)
    }

    /// Needs a token, which a browser may send as the password of HTTP Basic. For static pages alone.
    pub fn browser() -> Self {
        Self::new(Access::Browser)
    }

    /// Needs nothing. The contract has the list of such routes.
    pub fn open() -> Self {
        Self::new(Access::Open)
    }

    /// Needs no token but a signature over the body, which the handler checks before anything else. Without a
    /// valid one it does nothing and notes no subject. The contract has the list of such routes.
    pub fn signed() -> Self {
        Self::new(Access::Signed)
    }

    /// Takes bodies of so many bytes.
    pub fn body_limit(self, body_limit: usize) -> Self {
        Self { body_limit, ..self }
    }

    /// May take as long as an operation does: no time limit.
    pub fn waits(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Takes a stream as its body, or answers with one: no time limit, no size limit.
    pub fn streams(self) -> Self {
        Self { waits: true, streams: true, ..self }
    }
}
