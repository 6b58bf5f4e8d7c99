//! Whether the daemon lives and can serve.

pub mod routes;
