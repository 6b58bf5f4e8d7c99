//! Migrations: where their files come from, and the watcher that keeps a database up to date with them.

pub mod directory;
pub mod settings;
mod sources;
pub mod watch;
