//! Migrations: where their files come from, the watcher that keeps a database up to date with them, and rollouts, which
//! bring them to many databases of the daemon.
//!
//! `set` is what a request sends, `run` runs it in one database, `targets` finds the databases of a rollout and how to
//! log in to each, `record` the rows; `service` is what is asked, `steps` what the operation does.

pub mod directory;
mod record;
pub mod routes;
mod run;
mod service;
mod set;
pub mod settings;
mod sources;
pub mod steps;
mod targets;
pub mod watch;

pub(crate) use run::{Parties, run, verdict};
pub use service::MigrationService;
pub(crate) use set::{Set, options};
