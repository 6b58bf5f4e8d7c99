//! The daemon: state, durable operations, one folder per capability, and the HTTP surface.

pub mod operations;
pub mod problem;
pub mod store;
pub mod system;
