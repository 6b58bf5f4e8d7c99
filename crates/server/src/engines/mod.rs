//! PostgreSQL installations: which there are, and installing another.

pub mod routes;
pub mod service;
pub mod steps;
