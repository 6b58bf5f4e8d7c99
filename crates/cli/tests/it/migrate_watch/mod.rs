//! `pgdb migrate watch`, against a real PostgreSQL server.

mod bed;
mod command_line;
mod contents;
mod folders;
mod kubernetes;
mod kubernetes_api_server;
mod other;
mod postgres;
