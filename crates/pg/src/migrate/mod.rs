//! Migrations: files run in order, each in one transaction with its row of the ledger.
//!
//! One session does all: it holds the database's advisory lock, so that there is one migrator at a time, and runs the
//! files. If the session is lost, the lock, the transaction and the row are lost with it, and nothing is half done.
//!
//! Files that are not trusted run in a session of their own, logged in as a role that the ledger is out of reach of
//! (`Session::open_apart`, `wall.rs`); how that is exact all the same is in `mark.rs`.

mod ahead;
mod attempt;
mod backoff;
pub mod check;
pub mod drift;
pub mod dump;
pub mod error;
mod failure;
mod file;
mod held;
pub mod import;
mod index;
pub mod ledger;
pub mod lint;
mod lock;
mod mark;
mod note;
pub mod place;
mod reach;
pub mod report;
pub mod run;
pub mod scratch;
pub mod session;
mod setup;
pub mod shared;
pub mod split;
pub mod steps;
mod trust;
mod wall;
mod watch;
mod whole;
