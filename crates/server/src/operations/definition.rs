//! What a kind of operation is: its steps as data, and what each does and undoes.

use super::engine::Engine;
use super::record::OperationRecord;
use crate::problem::{Problem, ProblemKind};
use async_trait::async_trait;
use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// One kind of operation, such as `instance.deploy`. Steps are known by name, so that they survive the process.
#[async_trait]
pub trait OperationKind: Send + Sync + 'static {
    /// Its name in the field's terms, `thing.verb`.
    fn kind(&self) -> &str;

    /// The steps for an input, in order. Pure; asked once, when the operation is written down.
    fn plan(&self, input: &Value) -> Vec<StepPlan>;

    /// Does a step. It may have been begun, or even ended, before: look first.
    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError>;

    /// Takes back whatever a step has done, if anything. It may have been begun before: look first.
    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError>;

    /// Whether a second request for the same goal joins the running operation instead of getting a conflict.
    fn joinable(&self) -> bool {
        false
    }

    /// Whether a request with the input `new` has the same goal as the running operation with the input `active`.
    fn same_goal(&self, active: &Value, new: &Value) -> bool {
        active == new
    }

    /// Where an operation for this input is at work. What a step may take at most says nothing of that: a clone may take
    /// an hour, and takes a second.
    fn place(&self, _input: &Value) -> Place {
        Place::Usual
    }

    /// Whether a failure takes back what was done. An operation that only removes things goes forward instead: it
    /// ends `failed` and is asked for again.
    fn undoes(&self) -> bool {
        true
    }

    /// Whether it can be told to end early. One that takes nothing back then ends where it stands.
    fn cancellable(&self) -> bool {
        self.undoes()
    }
}

/// Where an operation is at work: who has to wait for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of the places for what takes seconds.
    Usual,
    /// One of the places for what may take hours, where nobody else has to wait for it.
    Long,
    /// None: it waits for other operations, which must find a place, and sets its own limits. There can be only a few
    /// of such, one for each subject.
    Aside,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// Unique within the operation.
    pub name: String,
    /// How it is repeated.
    pub policy: StepPolicy,
}

/// How often a step is tried and how long one try may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPolicy {
    /// Tries that may fail with a passing error.
    pub tries: u32,
    /// Pause after the first failure; doubles each time up to [`Self::max_backoff_ms`].
    pub backoff_ms: u64,
    /// The longest pause.
    pub max_backoff_ms: u64,
    /// The longest one try may take.
    pub timeout_ms: u64,
    /// Whether what it has begun cannot be taken back: from here on the operation is not cancelled any more.
    #[serde(default)]
    pub no_way_back: bool,
}

impl Default for StepPolicy {
    fn default() -> Self {
        Self { tries: 4, backoff_ms: 100, max_backoff_ms: 5_000, timeout_ms: 120_000, no_way_back: false }
    }
}

impl StepPolicy {
    /// The pause after the given number of failures (at least 1).
    pub fn pause_after(&self, failures: u32) -> Duration {
        let doubled = self.backoff_ms.saturating_mul(1u64 << failures.saturating_sub(1).min(20));
        Duration::from_millis(doubled.min(self.max_backoff_ms))
    }
}

impl StepPlan {
    /// A step with the usual policy.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), policy: StepPolicy::default() }
    }

    /// The same step with more or fewer tries that may fail with a passing error.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.policy.tries = tries;
        self
    }

    /// The same step with a longer or shorter time for one try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The same step as one that cannot be taken back once it has begun. To be a plan's last.
    #[must_use]
    pub fn no_way_back(mut self) -> Self {
        self.policy.no_way_back = true;
        self
    }
}

/// Rows that change together with a step's end. Called again when the state file could not be written.
pub type Commit = Arc<dyn Fn(&Connection) -> Result<(), Problem> + Send + Sync>;

/// What a step leaves behind.
#[derive(Default)]
pub struct StepDone {
    /// For later steps and for people to see. Never a secret.
    pub output: Value,
    /// Committed in one transaction with the step's end.
    pub commit: Option<Commit>,
}

impl StepDone {
    /// Nothing but the fact that it is done.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Something for later steps to read.
    pub fn output(output: Value) -> Self {
        Self { output, commit: None }
    }

    /// Rows to change together with the step's end.
    pub fn commit(change: impl Fn(&Connection) -> Result<(), Problem> + Send + Sync + 'static) -> Self {
        Self { output: Value::Null, commit: Some(Arc::new(change)) }
    }
}

/// Why a step failed.
#[derive(Debug, Clone)]
pub struct StepError {
    /// A stable code in snake_case.
    pub code: String,
    /// A sentence for a person. Never a secret.
    pub message: String,
    /// Whether trying again may help.
    pub passing: bool,
}

impl StepError {
    /// Trying again may help.
    pub fn passing(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), passing: true }
    }

    /// Trying again will not help.
    pub fn lasting(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), passing: false }
    }
}

impl From<Problem> for StepError {
    fn from(problem: Problem) -> Self {
        let passing = matches!(problem.kind, ProblemKind::Busy | ProblemKind::Internal | ProblemKind::Upstream);
        Self { code: problem.code.to_owned(), message: problem.message, passing }
    }
}

/// What a step knows.
#[derive(Clone)]
pub struct StepContext {
    /// The operation as it stands.
    pub operation: Arc<OperationRecord>,
    /// Cancelled when the operation should end early: a long wait listens to it.
    pub cancelled: CancellationToken,
    /// For a step that waits for other operations.
    pub engine: Engine,
}

impl StepContext {
    /// The operation's input.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        serde_json::from_value(self.operation.input.clone())
            .map_err(|error| StepError::lasting("bad_input", format!("the operation's input cannot be read: {error}")))
    }

    /// What an earlier step left behind.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        let output = self.operation.steps.iter().find(|record| record.name == step).map(|record| record.output.clone());
        serde_json::from_value(output.unwrap_or_default())
            .map_err(|error| StepError::lasting("bad_output", format!("step {step} left nothing usable: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = StepPolicy { backoff_ms: 100, max_backoff_ms: 350, ..StepPolicy::default() };
        let pauses: Vec<u128> = (1..=4).map(|failures| policy.pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
    }
}
