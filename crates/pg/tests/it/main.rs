//! The crate against a real PostgreSQL server.

mod connect;
mod provision;
mod rights;
mod server;
mod swap;
mod tls;
