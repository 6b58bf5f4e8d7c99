//! Who did what, when, on what, and how it ended.

pub mod routes;
mod service;

pub use service::{Audit, Record};
