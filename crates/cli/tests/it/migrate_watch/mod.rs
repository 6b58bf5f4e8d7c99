//! `pgdb migrate watch`, against a real PostgreSQL server.

mod bed;
mod command_line;
mod folders;
mod kubernetes;
mod postgres;
