//! Types and pure planning shared by every other crate.
//!
//! Nothing here does I/O, starts a task, reads a clock or draws a random number: time and
//! randomness come in as arguments (see [`time::Clock`] and [`random::Entropy`]).

pub mod copying;
pub mod duration;
pub mod hmac;
pub mod id;
pub mod infra;
pub mod instance;
pub mod migration;
pub mod name;
pub mod operation;
pub mod ports;
pub mod preview;
pub mod random;
pub mod registry;
pub mod scope;
pub mod sizing;
pub mod time;
pub mod url;
