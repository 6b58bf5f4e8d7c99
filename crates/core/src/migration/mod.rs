//! Migrations: files, what a ledger says of them, and what to do. Pure: no file is read and no server asked.
//!
//! A source (a folder, a ConfigMap) gives names and bytes, from which [`file::File`]s are made; the ledger in the
//! target database gives [`ledger::LedgerRow`]s; [`plan::plan`] compares the two.

pub mod checksum;
pub mod directives;
pub mod file;
pub mod key;
pub mod ledger;
pub mod plan;
pub mod validate;
