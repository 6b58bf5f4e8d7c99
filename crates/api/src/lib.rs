//! Wire types of the HTTP API, one file per resource. No logic: what a field means stands here, what
//! happens to it stands in the server.

pub mod admin;
pub mod audit;
pub mod engines;
pub mod errors;
pub mod health;
pub mod instances;
pub mod migrate_watch;
pub mod migrations;
pub mod operations;
pub mod previews;
pub mod templates;
pub mod tokens;
