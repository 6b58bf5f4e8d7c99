//! What can go wrong between us and a PostgreSQL server.

use crate::quote::QuoteError;
use std::error::Error as _;
use std::io;
use std::time::Duration;
use tokio_postgres::error::{DbError, ErrorPosition};

/// A failed call. Display says what was tried; why it failed is the source. Neither holds SQL text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PgError {
    /// No session could be had.
    #[error("cannot connect to PostgreSQL at {address}")]
    CannotConnect {
        /// Host and port, or the socket's path.
        address: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// The server knows us and does not let us in: wrong password, no such role, no rule for this address.
    #[error("PostgreSQL at {address} refused the login of role '{role}'")]
    AuthenticationRefused {
        /// Host and port, or the socket's path.
        address: String,
        /// The role that tried.
        role: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// A statement failed, or the connection was lost before its answer came: then it is unknown whether it
    /// took effect, and one has to look.
    #[error("cannot {action}")]
    QueryFailed {
        /// Verb and object, such as `create database`.
        action: &'static str,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// A name or text that PostgreSQL cannot hold.
    #[error("cannot be used in SQL")]
    Unquotable(#[from] QuoteError),
    /// A password was given where only its verifier may be sent.
    #[error("a role's password is only ever sent as a SCRAM-SHA-256 verifier")]
    NotAVerifier,
    /// What the call works on is not there.
    #[error("{kind} '{name}' does not exist{hint}")]
    Missing {
        /// `role` or `database`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What that means and what to do, starting with a separator; or nothing.
        hint: String,
    },
    /// The ledger of migrations is not to be used: using it could run somebody's code, or we have no right to.
    #[error("{what}; {advice}")]
    UnfitLedger {
        /// Whose it is, and what is wrong with it.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A name is taken by something that the call did not make.
    #[error("{kind} '{name}' is in the way")]
    InTheWay {
        /// `role` or `database`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A script has ended the transaction that it was run in.
    #[error(
        "it ends the transaction that it is run in; leave out BEGIN, COMMIT and ROLLBACK, for a script is run as a whole \
         or not at all"
    )]
    TransactionEnded,
    /// Sessions that do not end even when told to.
    #[error("{sessions} session(s) of database '{database}' did not end within {waited:?}")]
    SessionsRemain {
        /// The database.
        database: String,
        /// How many are left.
        sessions: u64,
        /// How long we waited.
        waited: Duration,
    },
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The server said no.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// It did not say anything.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The certificates that were given cannot be used.
    #[error("the certificate authority given is not usable")]
    Certificate(#[source] rustls::Error),
    /// The network, where we speak to the server without the driver.
    #[error(transparent)]
    Network(io::Error),
    /// The network, TLS, or the protocol.
    #[error(transparent)]
    Driver(tokio_postgres::Error),
}

/// A PostgreSQL error, in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {sqlstate})")]
pub struct ServerError {
    /// Five characters, see PostgreSQL's appendix A.
    pub sqlstate: String,
    /// `ERROR`, `FATAL` or `PANIC`, in the server's language.
    pub severity: String,
    /// One line.
    pub message: String,
    /// More about it. May quote values from rows.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// The call stack of server-side functions.
    pub context: Option<String>,
}

impl PgError {
    pub(crate) fn query(action: &'static str, error: tokio_postgres::Error) -> Self {
        Self::QueryFailed { action, cause: Box::new(error.into()) }
    }

    /// What the server said, when it was the server.
    pub fn server(&self) -> Option<&ServerError> {
        match self.cause()? {
            Cause::Server(error) => Some(error),
            _ => None,
        }
    }

    /// The five characters that say what kind of error the server reported.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.sqlstate.as_str())
    }

    /// Whether the same call may succeed a moment later without anybody doing something about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::SessionsRemain { .. } => true,
            Self::AuthenticationRefused { .. } => false,
            _ => self.cause().is_some_and(Cause::is_transient),
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::CannotConnect { cause, .. }
            | Self::AuthenticationRefused { cause, .. }
            | Self::QueryFailed { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl Cause {
    fn is_transient(&self) -> bool {
        match self {
            Self::Server(error) => error.is_transient(),
            Self::TimedOut(_) => true,
            Self::Certificate(_) => false,
            Self::Network(error) => passes(error.kind()),
            Self::Driver(error) => error.is_closed() || io_kind(error).is_some_and(passes),
        }
    }
}

impl ServerError {
    fn is_transient(&self) -> bool {
        match self.sqlstate.as_str() {
            // Too many connections; shutting down, crashed, starting up; a serialization failure, a deadlock;
            // a lock that could not be had; an object in use.
            "53300" | "57P01" | "57P02" | "57P03" | "40001" | "40P01" | "55P03" | "55006" => true,
            // Two sessions that alter the same role or database at once: PostgreSQL has no code for it.
            "XX000" => self.message.starts_with("tuple concurrently "),
            code => code.starts_with("08"),
        }
    }
}

impl From<tokio_postgres::Error> for Cause {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Server(Box::new(db.into())),
            None => Self::Driver(error),
        }
    }
}

impl From<&DbError> for ServerError {
    fn from(db: &DbError) -> Self {
        Self {
            sqlstate: db.code().code().to_owned(),
            severity: db.severity().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
            position: match db.position() {
                Some(ErrorPosition::Original(position)) => Some(*position),
                // The position in a statement of a function's body; its text is not kept.
                Some(ErrorPosition::Internal { .. }) | None => None,
            },
            context: db.where_().map(str::to_owned),
        }
    }
}

fn io_kind(error: &tokio_postgres::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = current.source();
    }
    None
}

/// A server that starts has no socket file yet, then refuses, then may hang up. Bad data (a certificate that
/// does not verify), a bad host name or a missing right stay bad.
fn passes(kind: io::ErrorKind) -> bool {
    !matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str, message: &str) -> PgError {
        PgError::QueryFailed {
            action: "create database",
            cause: Box::new(Cause::Server(Box::new(ServerError {
                sqlstate: sqlstate.into(),
                severity: "ERROR".into(),
                message: message.into(),
                detail: Some("the detail".into()),
                hint: None,
                position: None,
                context: None,
            }))),
        }
    }

    #[test]
    fn display_does_not_repeat_its_source() {
        let error = server("42P04", "database \"x\" already exists");
        assert_eq!(error.to_string(), "cannot create database");
        assert_eq!(error.source().expect("a source").to_string(), "database \"x\" already exists (SQLSTATE 42P04)");
        assert_eq!(error.sqlstate(), Some("42P04"));
        assert_eq!(error.server().and_then(|server| server.detail.as_deref()), Some("the detail"));
    }

    #[test]
    fn knows_what_passes_by_itself() {
        for passing in ["53300", "57P03", "40P01", "55006", "08006"] {
            assert!(server(passing, "").is_transient(), "{passing}");
        }
        assert!(server("XX000", "tuple concurrently updated").is_transient());
        assert!(server("XX000", "tuple concurrently deleted").is_transient());
        for staying in ["42P04", "28P01", "3D000", "XX000"] {
            assert!(!server(staying, "").is_transient(), "{staying}");
        }
    }
}
