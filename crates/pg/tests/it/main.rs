//! The crate against a real PostgreSQL server.

mod connect;
mod provision;
mod server;
mod swap;
mod tls;
