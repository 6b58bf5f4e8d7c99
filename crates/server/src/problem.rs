//! Why something that was asked for cannot be done. Knows nothing of HTTP: `http::error` gives each kind its status.

use std::fmt;
use std::time::Duration;

/// What sort of problem it is, and so who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request makes no sense; asking again unchanged will not help.
    Invalid,
    /// Whoever asks may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// It is there and locked against this.
    Locked,
    /// It may work in a moment.
    Busy,
    /// PostgreSQL, an engine or another server that we drive has failed.
    Upstream,
    /// Our own fault.
    Internal,
}

/// A problem, told so that a person can act on it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What sort of problem.
    pub kind: ProblemKind,
    /// A stable code in snake_case; it has a page in `docs/errors/`.
    pub code: &'static str,
    /// What happened, why, and what to do next. Never a secret.
    pub message: String,
    /// The operation that failed or stands in the way.
    pub operation_id: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), operation_id: None, retry_after: None }
    }

    /// The request makes no sense.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, code, message)
    }

    /// Whoever asks may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Forbidden, "forbidden", message)
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, code, message)
    }

    /// It contradicts what is there.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, code, message)
    }

    /// It is there and locked against this.
    pub fn locked(code: &'static str, message: impl Into<String>) -> Self {
        Self { retry_after: Some(Duration::from_secs(5)), ..Self::new(ProblemKind::Locked, code, message) }
    }

    /// It may work in a moment.
    pub fn busy(code: &'static str, message: impl Into<String>) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(ProblemKind::Busy, code, message) }
    }

    /// Something that we drive has failed.
    pub fn upstream(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Upstream, code, message)
    }

    /// Our own fault; the message goes to the log, never to the client.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Internal, "internal", message)
    }

    /// Names the operation that failed or stands in the way.
    #[must_use]
    pub fn with_operation(mut self, id: impl Into<String>) -> Self {
        self.operation_id = Some(id.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// An error with everything that caused it, in one line for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
