//! Running one operation from where it stands to its end.

use super::definition::{Commit, OperationKind, Place, StepContext, StepDone, StepError};
use super::engine::{Engine, Shared};
use super::record::{self, OperationRecord};
use crate::problem::{Problem, ProblemKind};
use futures::FutureExt;
use pgdb_core::operation::OperationState::{self, Failed, Pending, Running, Succeeded, Undoing, Undone};
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

/// How often an undo is tried before a person has to look.
const UNDO_TRIES: u32 = 8;

/// One operation at work.
struct Execution<'a> {
    engine: &'a Engine,
    shared: &'a Shared,
    kind: &'a dyn OperationKind,
    operation: OperationRecord,
    publisher: &'a watch::Sender<Arc<OperationRecord>>,
    cancel: CancellationToken,
}

/// The daemon is shutting down: leave everything as it is written.
struct Stopped;

pub(super) async fn run(
    engine: &Engine,
    kind: &dyn OperationKind,
    operation: OperationRecord,
    (publisher, cancel): (&watch::Sender<Arc<OperationRecord>>, CancellationToken),
    permit: Option<OwnedSemaphorePermit>,
) {
    let shared = &*engine.shared;
    let begun = permit.is_some() && operation.state == Running;
    let limit = operation.longest().max(shared.config.deadline);
    let permits = match kind.place(&operation.input) {
        Place::Usual => Some(&shared.permits),
        Place::Long => Some(&shared.long_permits),
        Place::Aside => None,
    };
    let _permit = match (permit, permits) {
        (None, Some(permits)) => {
            let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
            Some(permit)
        }
        (permit, _) => permit,
    };
    let mut execution = Execution { engine, shared, kind, operation, publisher, cancel: cancel.clone() };
    let deadline = async {
        tokio::time::sleep(limit).await;
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = execution.drive(begun) => {}
        () = deadline => {}
    }
}

impl Execution<'_> {
    async fn drive(&mut self, begun: bool) -> Result<(), Stopped> {
        if self.operation.state != Undoing
            && let Err(error) = self.forward(begun).await?
        {
            self.operation.error = Some((error.code, error.message));
            if !self.kind.undoes() {
                return self.end_where_it_stands().await;
            }
            self.operation.state = Undoing;
            self.persist(&[]).await?;
        }
        if self.operation.state == Undoing {
            return self.backward().await;
        }
        Ok(())
    }

    /// Runs the steps that have not succeeded yet. `begun`: the first one is written down as begun.
    async fn forward(&mut self, begun: bool) -> Result<Result<(), StepError>, Stopped> {
        let first = self.operation.steps.iter().position(|step| step.state != Succeeded);
        let Some(first) = first else {
            self.end(Succeeded, &[]).await?;
            return Ok(Ok(()));
        };
        if !begun {
            self.operation.state = Running;
            self.begin(first);
            self.persist(&[first]).await?;
        }
        for position in first..self.operation.steps.len() {
            let done = match self.attempt(position).await? {
                Ok(done) => done,
                Err(error) => return Ok(Err(error)),
            };
            let now = self.shared.clock.now();
            let step = &mut self.operation.steps[position];
            step.state = Succeeded;
            step.finished_at = Some(now);
            step.output = done.output;
            step.error = None;
            // The end of this step, the begin of the next one and whatever rows the step changes are one commit.
            let last = position + 1 == self.operation.steps.len();
            let refused = if last {
                self.operation.state = Succeeded;
                self.operation.finished_at = Some(now);
                self.commit(&[position], done.commit).await?
            } else {
                self.begin(position + 1);
                self.commit(&[position, position + 1], done.commit).await?
            };
            if let Some(problem) = refused {
                return Ok(Err(self.refuse(position, problem.into())));
            }
            self.observe_step(position);
            if last {
                self.observe_end();
            }
            self.fault(position, "after").await;
        }
        Ok(Ok(()))
    }

    /// A step whose rows were refused has failed, and the next one was never begun.
    fn refuse(&mut self, position: usize, error: StepError) -> StepError {
        self.operation.state = Running;
        self.operation.finished_at = None;
        if let Some(next) = self.operation.steps.get_mut(position + 1) {
            next.state = Pending;
            next.attempt -= 1;
            next.started_at = None;
        }
        let step = &mut self.operation.steps[position];
        step.state = Failed;
        step.output = Value::Null;
        step.fail(&error);
        error
    }

    fn begin(&mut self, position: usize) {
        let now = self.shared.clock.now();
        self.operation.steps[position].begin(now);
    }

    /// Tries a step, which is written down as begun, until it succeeds or has failed for good.
    async fn attempt(&mut self, position: usize) -> Result<Result<StepDone, StepError>, Stopped> {
        loop {
            if self.cancel.is_cancelled() && !self.operation.steps[position].policy.no_way_back {
                let why = "the operation was cancelled, or took longer than it may";
                return Ok(Err(StepError::lasting("cancelled", why)));
            }
            let policy = self.operation.steps[position].policy;
            let error = match self.run_once(position, Duration::from_millis(policy.timeout_ms)).await {
                Ok(done) => return Ok(Ok(done)),
                Err(error) => error,
            };
            let step = &mut self.operation.steps[position];
            step.failures += 1;
            step.fail(&error);
            let give_up = !error.passing || step.failures >= policy.tries;
            let pause = policy.pause_after(step.failures);
            tracing::warn!(operation = %self.operation.id, kind = %self.operation.kind, subject = %self.operation.subject,
                step = %self.operation.steps[position].name, code = %error.code, error = %error.message, give_up, "a step failed");
            if give_up {
                let now = self.shared.clock.now();
                let step = &mut self.operation.steps[position];
                step.state = Failed;
                step.finished_at = Some(now);
                self.persist(&[position]).await?;
                self.observe_step(position);
                return Ok(Err(error));
            }
            self.persist(&[position]).await?;
            tokio::select! {
                () = self.shared.stopping.cancelled() => return Err(Stopped),
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.begin(position);
            self.persist(&[position]).await?;
        }
    }

    async fn run_once(&self, position: usize, timeout: Duration) -> Result<StepDone, StepError> {
        let name = &self.operation.steps[position].name;
        let cx = self.context();
        self.fault(position, "before").await;
        self.injected_error(position)?;
        self.fault_inside(position);
        let work = async {
            self.fault_within(position, &cx).await?;
            self.kind.run(name, &cx).await
        };
        let attempt = tokio::time::timeout(timeout, whole(work));
        let result = attempt.await.unwrap_or_else(|_| {
            Err(StepError::passing("step_timeout", format!("step {name} took longer than {} s", timeout.as_secs())))
        });
        let result = if self.repeats(position) && result.is_ok() { self.kind.run(name, &cx).await } else { result };
        self.fault(position, "unrecorded").await;
        result
    }

    /// Takes back every step that was begun, the last one first.
    async fn backward(&mut self) -> Result<(), Stopped> {
        for position in (0..self.operation.steps.len()).rev() {
            if matches!(self.operation.steps[position].state, Pending | Undone) {
                continue;
            }
            self.operation.steps[position].state = Undoing;
            self.persist(&[position]).await?;
            if !self.undo_step(position).await? {
                return self.end(Failed, &[position]).await;
            }
            let now = self.shared.clock.now();
            let step = &mut self.operation.steps[position];
            step.state = Undone;
            step.finished_at = Some(now);
            self.persist(&[position]).await?;
            self.observe_step(position);
            self.fault(position, "undo-after").await;
        }
        self.end(Undone, &[]).await
    }

    /// False when it could not be undone for good; the operation's error then says what remains.
    async fn undo_step(&mut self, position: usize) -> Result<bool, Stopped> {
        for failures in 1..=UNDO_TRIES {
            self.fault(position, "undo-before").await;
            let name = self.operation.steps[position].name.clone();
            let limit = Duration::from_millis(self.operation.steps[position].policy.timeout_ms);
            let undo = tokio::time::timeout(limit, whole(self.kind.undo(&name, &self.context()))).await;
            let result = undo.unwrap_or_else(|_| {
                Err(StepError::passing(
                    "step_timeout",
                    format!("taking back {name} took longer than {} s", limit.as_secs()),
                ))
            });
            self.fault(position, "undo-unrecorded").await;
            let Err(error) = result else { return Ok(true) };
            tracing::warn!(operation = %self.operation.id, subject = %self.operation.subject, step = %name,
                code = %error.code, error = %error.message, "an undo failed");
            self.operation.steps[position].fail(&error);
            self.persist(&[position]).await?;
            if failures == UNDO_TRIES {
                let first = self.operation.error.take();
                let (code, why) = first.unwrap_or_else(|| ("undo_failed".to_owned(), "it failed".to_owned()));
                let message = format!("{why}; and step {name} could not be undone: {}", error.message);
                self.operation.error = Some((code, message));
                self.operation.steps[position].state = Failed;
                break;
            }
            let pause = self.operation.steps[position].policy.pause_after(failures);
            tokio::select! {
                () = self.shared.stopping.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(false)
    }

    /// Ends a kind that only goes forward. A step that was begun and then cancelled has failed with it.
    async fn end_where_it_stands(&mut self) -> Result<(), Stopped> {
        let now = self.shared.clock.now();
        let mut positions = Vec::new();
        for (position, step) in self.operation.steps.iter_mut().enumerate() {
            if step.state == Running {
                step.state = Failed;
                step.finished_at = Some(now);
                step.error.clone_from(&self.operation.error);
            }
            if step.state == Failed {
                positions.push(position);
            }
        }
        self.end(Failed, &positions).await
    }

    async fn end(&mut self, state: OperationState, positions: &[usize]) -> Result<(), Stopped> {
        self.operation.state = state;
        self.operation.finished_at = Some(self.shared.clock.now());
        self.persist(positions).await?;
        self.observe_end();
        Ok(())
    }

    fn context(&self) -> StepContext {
        StepContext {
            operation: Arc::new(self.operation.clone()),
            cancelled: self.cancel.clone(),
            engine: self.engine.clone(),
        }
    }

    async fn persist(&self, positions: &[usize]) -> Result<(), Stopped> {
        self.commit(positions, None).await.map(drop)
    }

    /// Writes where things stand, and a step's own rows with it. While the state file cannot be written (a full
    /// disk, another program's lock) it tries again: what was done must be written down before anything else is.
    /// Gives back the problem when the step's own rows were refused; then nothing was written.
    async fn commit(&self, positions: &[usize], rows: Option<Commit>) -> Result<Option<Problem>, Stopped> {
        let operation = Arc::new(self.operation.clone());
        let mut pause = Duration::from_millis(50);
        loop {
            let (record, touched, rows) = (Arc::clone(&operation), positions.to_vec(), rows.clone());
            let written = self.shared.store.write(move |connection| {
                record::update(connection, &record, &touched)?;
                rows.map_or(Ok(()), |change| change(connection))
            });
            match written.await {
                Ok(()) => {
                    self.publisher.send_replace(operation);
                    let leave = self.shared.stopping.is_cancelled() && !self.operation.state.is_final();
                    return if leave { Err(Stopped) } else { Ok(None) };
                }
                Err(problem) if !matches!(problem.kind, ProblemKind::Busy | ProblemKind::Internal) => {
                    return Ok(Some(problem));
                }
                Err(problem) => {
                    tracing::error!(operation = %self.operation.id, %problem, "the state could not be written; trying again");
                }
            }
            tokio::select! {
                () = self.shared.stopping.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn observe_step(&self, position: usize) {
        for observer in &self.shared.observers {
            observer.step_ended(&self.operation, &self.operation.steps[position]);
        }
    }

    fn observe_end(&self) {
        let operation = &self.operation;
        tracing::info!(operation = %operation.id, kind = %operation.kind, subject = %operation.subject,
            state = %operation.state, "operation ended");
        for observer in &self.shared.observers {
            observer.operation_ended(operation);
        }
    }
}

/// A panic is our own fault, and fails a step; it must not leave the operation without anybody at work on it.
async fn whole<T>(step: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    let outcome = AssertUnwindSafe(step).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(StepError::lasting("internal", "a step panicked; the daemon's log tells where")))
}

/// Where the crash test makes things go wrong; release builds have nothing of it.
#[cfg(debug_assertions)]
impl Execution<'_> {
    async fn fault(&self, position: usize, point: &str) {
        super::faults::strike(&self.operation, &self.operation.steps[position].name, point).await;
    }

    fn injected_error(&self, position: usize) -> Result<(), StepError> {
        super::faults::error(&self.operation, &self.operation.steps[position])
    }

    fn fault_inside(&self, position: usize) {
        super::faults::strike_inside(&self.operation, &self.operation.steps[position].name);
    }

    async fn fault_within(&self, position: usize, cx: &StepContext) -> Result<(), StepError> {
        super::faults::within(cx, &self.operation.steps[position].name).await
    }

    fn repeats(&self, position: usize) -> bool {
        super::faults::repeats(&self.operation, &self.operation.steps[position].name)
    }
}

#[cfg(not(debug_assertions))]
#[expect(
    clippy::unused_async,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "stands in for the crash test's hooks"
)]
impl Execution<'_> {
    async fn fault(&self, _: usize, _: &str) {}
    fn injected_error(&self, _: usize) -> Result<(), StepError> {
        Ok(())
    }
    fn fault_inside(&self, _: usize) {}
    async fn fault_within(&self, _: usize, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
    fn repeats(&self, _: usize) -> bool {
        false
    }
}
