//! The binary and the workspace, from outside.

mod adoption;
mod bad_days;
mod cli;
mod crash;
mod docker_calls;
mod infra;
mod instances;
mod migrate_checks;
mod migrate_refused;
mod migrate_rollout;
mod migrate_run;
mod migrate_watch;
mod operations;
mod previews;
mod pulls;
mod registry;
mod scripts;
mod seed_client;
mod workspace;
