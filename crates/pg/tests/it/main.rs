//! The crate against a real PostgreSQL server.

mod connect;
mod migrate;
mod provision;
mod rights;
mod server;
mod swap;
mod tls;
