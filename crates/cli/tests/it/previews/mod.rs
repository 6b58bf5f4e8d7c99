//! Previews on a real PostgreSQL server that the daemon was told of.

pub(crate) mod bed;
mod contract;
mod crowds;
mod isolation;
mod lifetime;
mod pool;
mod templates;
