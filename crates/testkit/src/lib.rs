//! What tests of the whole program stand on: a real daemon in a directory of its own, a client for it, logins to its
//! databases, and checks that nothing is left over. Knows the daemon only from outside, as its users do.

pub mod api;
mod block;
pub mod cluster;
pub mod daemon;
pub mod docker;
pub mod hetzner;
pub mod kube;
pub mod machine;
pub mod on;
pub mod processes;
pub mod sql;
pub mod wait;
pub mod world;
