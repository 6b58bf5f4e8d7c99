//! Durable operations: the one way in which pgdb changes the world.
//!
//! An operation is written down with all its steps before anything happens, and every step's begin and end are
//! committed before the next thing is done. So whatever kills the daemon, the next one reads where it stood and goes
//! on, or takes back what was done. That works because a step looks before it acts: running it twice does what
//! running it once does.
//!
//! `definition` is what a kind of operation looks like, `record` the rows, `engine` starts, joins, cancels and
//! resumes, `execute` runs one operation, `retention` forgets old ones.

pub mod definition;
mod engine;
mod execute;
#[cfg(debug_assertions)]
mod faults;
mod outcome;
pub mod record;
mod retention;
pub mod routes;
#[cfg(test)]
mod tests;

pub use definition::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
pub use engine::{Choice, Engine, EngineConfig, NewOperation, Observer, Started};
pub use outcome::{outcome, step_problem};
pub use record::{OperationRecord, StepRecord};
