//! Migrations.

pub mod drift;
pub mod dump;
pub mod import;
pub mod lint;
pub mod scratch;
