//! The daemon itself.

pub mod routes;
