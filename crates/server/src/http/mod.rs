//! Everything between a socket and a capability.

pub mod caller;
mod docs;
pub mod error;
pub mod extract;
mod guard;
mod limiter;
pub mod metrics;
mod observe;
pub mod openapi;
pub mod router;
pub mod routes;
pub mod rule;
pub mod serve;
pub mod state;
pub mod upload;
