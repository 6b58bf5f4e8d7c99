//! The daemon's HTTP surface in process, on a state file of its own per test.

mod audit;
mod auth;
mod daemon;
mod error_pages;
mod errors;
mod keys;
mod limits;
mod logs;
mod openapi;
mod start;
mod support;
