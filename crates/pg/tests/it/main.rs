//! The crate against a real PostgreSQL server.

mod connect;
mod migrate_drift;
mod migrate_import;
mod migrate_lint;
mod provision;
mod rights;
mod server;
mod swap;
mod tls;
