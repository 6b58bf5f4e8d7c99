//! Instances: PostgreSQL servers that we deploy, watch and destroy.
//!
//! `record` is their rows, `world` what steps and reconcilers act through, `service` what is asked, `steps` what
//! the operations do, `reconcile` what keeps servers running, `rendered` the answer of `GET /v1/status`.

mod checks;
pub mod reconcile;
pub mod record;
pub mod registry;
mod rendered;
pub mod routes;
pub mod service;
pub mod steps;
pub(crate) mod world;

pub use record::InstanceRecord;
pub use service::InstanceService;
pub use world::{Runtimes, World, WorldConfig};
