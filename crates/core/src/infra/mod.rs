//! A server at a cloud, with a firewall and a volume: names, what was seen there, and what to do about it. Pure.
//!
//! [`cloud`] has what the provider's API says, [`plan::plan`] compares it with what is wanted, and [`removal::removal`]
//! tells what goes away in which order. Requests, waiting and files are in the crate `pgdb-infra`.

pub mod cidr;
pub mod cloud;
pub mod host_key;
pub mod labels;
pub mod name;
pub mod plan;
pub mod price;
pub mod refusal;
pub mod removal;
pub mod retry;
pub mod user_data;
