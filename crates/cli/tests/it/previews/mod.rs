//! Previews on a real PostgreSQL server that the daemon was told of.

pub(crate) mod bed;
mod contract;
mod crowds;
mod lifetime;
mod pool;
