//! The daemon: state, durable operations, one folder per capability, and the HTTP surface.

pub mod ca;
pub mod doctor;
pub mod engines;
pub mod instances;
pub mod operations;
pub mod problem;
pub mod secrets;
pub mod store;
pub mod system;
