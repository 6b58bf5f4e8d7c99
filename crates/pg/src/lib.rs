//! Talking to PostgreSQL: the only crate that does.
//!
//! What is sent is built by pure functions and looked at before it acts, so that every call can be repeated
//! after a crash. Passwords leave this crate in two ways only: in the answer to a server's SCRAM challenge, and
//! never otherwise; a role's password is set by its verifier (see [`scram`]).

pub mod bootstrap;
pub mod challenge;
pub mod connect;
pub mod copying;
pub mod error;
pub mod extensions;
pub mod handover;
pub mod inventory;
pub mod look;
pub mod migrate;
pub mod presence;
pub mod provision;
pub mod quote;
pub mod ready;
pub mod rights;
pub mod scram;
pub mod script;
pub mod sslmode;
pub mod swap;
mod tls;
pub mod url;

pub use connect::{Client, Target, TlsMode, connect, connect_for_scripts};
pub use error::PgError;
