//! Previews on a real PostgreSQL server that the daemon was told of.

mod bad_days;
pub(crate) mod bed;
mod bootstrap;
mod command_line;
mod contract;
mod crowds;
mod env_example;
mod isolation;
mod lifetime;
mod named_templates;
mod orphans;
mod own_server;
mod pool;
mod role_script;
mod template_definitions;
mod template_swaps;
mod templates;
mod webhook;
mod workflow;
