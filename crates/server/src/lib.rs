//! The daemon: state, durable operations, one folder per capability, and the HTTP surface.

pub mod admin;
pub mod audit;
pub mod ca;
pub mod config;
pub mod daemon;
pub mod data_dir;
pub mod doctor;
pub mod engines;
pub mod files;
pub mod health;
pub mod http;
pub mod instances;
pub mod lock;
pub mod logs;
pub mod migrations;
pub mod operations;
pub mod previews;
pub mod problem;
pub mod secrets;
pub mod store;
pub mod system;
pub mod templates;
mod tls;
pub mod tokens;

pub use daemon::run;
pub use tls::install_crypto;
