//! Previews: a database for each pull request, cloned from a template.
//!
//! `record`, `templates` and `entries` are rows; `world` is what steps act through, `server` the servers that previews
//! are made on, `postgres` what is said to them; `service` is what is asked, with `ensure`, `remove` and `prepare` as its
//! larger parts, `look` the one look that it takes to answer, `steps` what the operations do; `reconcile`, `pool` and
//! `orphans` see to what nobody asks for, `rests` to it that what fails is not tried over and over; `webhook` is what
//! GitHub asks for.

mod bootstrap;
pub mod checks;
mod ensure;
pub mod entries;
mod loader;
pub mod look;
pub mod orphans;
mod pool;
mod postgres;
mod prepare;
pub mod reconcile;
pub mod record;
mod remove;
mod rests;
pub mod routes;
pub mod server;
pub mod service;
pub mod steps;
pub mod templates;
mod webhook;
mod wire;
mod world;

pub use service::PreviewService;
pub use world::PreviewWorld;
