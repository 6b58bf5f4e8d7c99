//! Who may do what: bootstrap tokens from outside, and tokens that are made, expire and are revoked here.

mod bootstrap;
pub mod routes;
mod service;

pub use bootstrap::Bootstrap;
pub use service::{Identity, Tokens};
