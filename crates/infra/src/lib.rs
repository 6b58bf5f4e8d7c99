//! Servers at a cloud: the provider's API, making and removing what belongs to a server, and putting pgdb on one over SSH.
//!
//! What to do is planned in [`pgdb_core::infra`]; here it is done. Nothing prints: progress goes to a [`Report`].

pub mod api;
pub mod bootstrap;
pub mod client;
pub mod destroy;
pub mod error;
pub mod init;
pub mod known_hosts;
pub mod place;
pub mod ssh;

/// Told what is being done, a line at a time, without a secret.
pub type Report<'a> = &'a (dyn Fn(&str) + Sync);
