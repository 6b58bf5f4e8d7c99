//! `pgdb migrate watch`, against a real PostgreSQL server.

mod bed;
mod command_line;
mod contents;
mod folders;
mod kubernetes;
mod other;
mod postgres;
