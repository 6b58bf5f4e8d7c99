//! Migrations: where files come from, and the watcher.

pub mod directory;
