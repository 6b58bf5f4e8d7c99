//! Starting, joining, cancelling and resuming operations.

use super::definition::{OperationKind, Place, StepPlan};
use super::execute;
use super::record::{self, OperationRecord, StepRecord};
use crate::problem::Problem;
use crate::store::Store;
use pgdb_core::id::OperationId;
use pgdb_core::operation::OperationState;
use pgdb_core::random::Entropy;
use pgdb_core::time::Clock;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often, and how far apart, somebody looks for an operation that is written down and not launched yet.
const LAUNCH_LOOKS: u32 = 200;
const LAUNCH_PAUSE: Duration = Duration::from_millis(5);

/// Told of ends; for metrics and for the reconcilers of the subjects.
pub trait Observer: Send + Sync + 'static {
    /// A step has ended, well or not.
    fn step_ended(&self, operation: &OperationRecord, step: &StepRecord);
    /// An operation has ended.
    fn operation_ended(&self, operation: &OperationRecord);
}

/// Limits of the engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// How many operations are at work at the same time; more wait as `pending`.
    pub at_once: usize,
    /// How many more of those that may take hours: a few restores of large dumps make nobody wait for a deploy.
    pub long_at_once: usize,
    /// How long one operation may take before it is cancelled. Counted from its (re)start in this process, by a
    /// clock that never goes backwards.
    pub deadline: Duration,
    /// How long ended operations are remembered.
    pub keep_for: Duration,
    /// How many ended operations are remembered at most.
    pub keep_at_most: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            at_once: 16,
            long_at_once: 4,
            deadline: Duration::from_secs(3600),
            keep_for: Duration::from_secs(90 * 24 * 3600),
            keep_at_most: 200_000,
        }
    }
}

/// What is asked of the engine.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// A registered kind.
    pub kind: &'static str,
    /// What it changes.
    pub subject: String,
    /// For its steps. Never a secret.
    pub input: Value,
}

/// What is left to decide while an operation is written down.
pub struct Choice<'a> {
    /// Its input, as it was asked for; may be changed.
    pub input: &'a mut Value,
    /// Whether nothing will be written down, because one for the same goal is at work.
    pub joins: bool,
}

/// An operation that was started or joined.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// Whether it was already under way.
    pub joined: bool,
}

/// Runs operations. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(super) config: EngineConfig,
    kinds: BTreeMap<String, Arc<dyn OperationKind>>,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) long_permits: Arc<Semaphore>,
    active: Mutex<HashMap<String, Active>>,
    pub(super) stopping: CancellationToken,
    tasks: TaskTracker,
}

/// A running operation as others see it.
#[derive(Clone)]
pub(super) struct Active {
    snapshot: watch::Receiver<Arc<OperationRecord>>,
    pub(super) cancel: CancellationToken,
}

impl Engine {
    /// An engine for these kinds. Nothing runs until [`Self::resume`] or [`Self::start`].
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        config: EngineConfig,
        kinds: Vec<Arc<dyn OperationKind>>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Self {
        let kinds = kinds.into_iter().map(|kind| (kind.kind().to_owned(), kind)).collect();
        let shared = Shared {
            store,
            clock,
            entropy,
            config,
            kinds,
            observers,
            permits: Arc::new(Semaphore::new(config.at_once)),
            long_permits: Arc::new(Semaphore::new(config.long_at_once)),
            active: Mutex::new(HashMap::new()),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The registered kinds.
    pub fn kinds(&self) -> Vec<String> {
        self.shared.kinds.keys().cloned().collect()
    }

    /// Takes up every operation that an earlier daemon left unfinished. Returns how many.
    pub async fn resume(&self) -> Result<usize, Problem> {
        let unfinished = self.shared.store.read(record::unfinished).await?;
        let count = unfinished.len();
        for operation in unfinished {
            tracing::info!(operation = %operation.id, kind = %operation.kind, subject = %operation.subject,
                state = %operation.state, "resuming an operation");
            self.launch(operation, None);
        }
        Ok(count)
    }

    /// What the operations that have not ended were asked for.
    pub async fn unfinished_inputs(&self) -> Result<Vec<Value>, Problem> {
        let unfinished = self.shared.store.read(record::unfinished).await?;
        Ok(unfinished.into_iter().map(|operation| operation.input).collect())
    }

    /// Writes an operation down and sets it to work.
    ///
    /// `prepare` runs first, in the same transaction: what it refuses is refused, and what it writes is there exactly
    /// if the operation is. Then a subject with an active operation gives `operation_conflict`, unless the kind lets
    /// the same request join it.
    pub async fn start<F>(&self, new: NewOperation, prepare: F) -> Result<Started, Problem>
    where
        F: FnOnce(&Connection) -> Result<(), Problem> + Send + 'static,
    {
        self.start_with(new, |connection, _| prepare(connection)).await
    }

    /// The same where `prepare` decides what the input is, once it knows whether the operation will be written down or
    /// another one joined. What it writes stands in both cases.
    pub async fn start_with<F>(&self, new: NewOperation, prepare: F) -> Result<Started, Problem>
    where
        F: FnOnce(&Connection, Choice<'_>) -> Result<(), Problem> + Send + 'static,
    {
        if self.shared.stopping.is_cancelled() {
            return Err(Problem::busy("shutting_down", "the daemon is shutting down; try again once it is back"));
        }
        let definition = self.definition(new.kind)?;
        // With a place at work the first step begins with the same commit; without one it begins when there is one.
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned().ok();
        let begins_at = permit.as_ref().map(|_| self.shared.clock.now());
        let mut operation = OperationRecord {
            seq: 0,
            id: OperationId::generate(&*self.shared.clock, &*self.shared.entropy).to_string(),
            kind: new.kind.to_owned(),
            subject: new.subject,
            steps: Vec::new(),
            input: new.input,
            state: OperationState::Pending,
            created_at: self.shared.clock.now(),
            finished_at: None,
            error: None,
            cancel_requested: false,
        };
        let written = self
            .shared
            .store
            .write(move |connection| {
                let active = record::active_on(connection, &operation.subject)?;
                let joins = active.as_ref().is_some_and(|active| {
                    let same = active.kind == operation.kind && definition.same_goal(&active.input, &operation.input);
                    definition.joinable() && same
                });
                prepare(connection, Choice { input: &mut operation.input, joins })?;
                match active {
                    Some(active) if joins => return Ok(Err(active.id)),
                    Some(active) => return Err(conflict(&active)),
                    None => {}
                }
                let plan = definition.plan(&operation.input);
                operation.steps = plan.into_iter().map(|plan: StepPlan| StepRecord::planned(plan)).collect();
                record::insert(connection, &mut operation)?;
                // Others wait for a place of their own.
                let begins_at = begins_at
                    .filter(|_| !operation.steps.is_empty() && definition.place(&operation.input) == Place::Usual);
                if let Some(now) = begins_at {
                    operation.begin_first(now);
                    record::update(connection, &operation, &[0])?;
                }
                Ok(Ok(operation))
            })
            .await?;
        match written {
            Ok(operation) => {
                let id = operation.id.clone();
                let permit = permit.filter(|_| operation.state == OperationState::Running);
                self.launch(operation, permit);
                Ok(Started { id, joined: false })
            }
            Err(id) => Ok(Started { id, joined: true }),
        }
    }

    /// Waits for an operation's success and returns it; its failure is the problem of the one who waited.
    pub async fn finish(&self, id: &str) -> Result<Arc<OperationRecord>, Problem> {
        let operation = self.wait(id).await?;
        super::outcome(&operation)?;
        Ok(operation)
    }

    /// Waits for an operation's end and returns it.
    pub async fn wait(&self, id: &str) -> Result<Arc<OperationRecord>, Problem> {
        let mut snapshots = self.follow(id).await?;
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            if snapshot.state.is_final() {
                return Ok(snapshot);
            }
            if snapshots.changed().await.is_err() {
                return Err(Problem::busy(
                    "shutting_down",
                    "the daemon is shutting down; the operation goes on when it is back",
                )
                .with_operation(id));
            }
        }
    }

    /// The operation as it changes. Of an ended one, just its last state.
    pub async fn follow(&self, id: &str) -> Result<watch::Receiver<Arc<OperationRecord>>, Problem> {
        Ok(match self.active_or_ended(id).await? {
            Ok(active) => active.snapshot,
            Err(operation) => watch::channel(Arc::new(operation)).1,
        })
    }

    /// A running operation, or an ended one as it is written. Between its commit and its launch, a moment later, it is
    /// neither.
    pub(super) async fn active_or_ended(&self, id: &str) -> Result<Result<Active, OperationRecord>, Problem> {
        for _ in 0..LAUNCH_LOOKS {
            if let Some(active) = self.active().get(id) {
                return Ok(Ok(active.clone()));
            }
            let operation = self.get(id).await?;
            if operation.state.is_final() {
                return Ok(Err(operation));
            }
            tokio::time::sleep(LAUNCH_PAUSE).await;
        }
        // The daemon is ending, or no longer knows this kind: nobody is at work on it.
        Ok(Err(self.get(id).await?))
    }

    /// One operation.
    pub async fn get(&self, id: &str) -> Result<OperationRecord, Problem> {
        let wanted = id.to_owned();
        let found = self.shared.store.read(move |connection| record::by_id(connection, &wanted)).await?;
        found.ok_or_else(|| {
            Problem::not_found("operation_not_found", "there is no such operation, or it is too long ago")
        })
    }

    /// Asks an operation to end early: its current step is let finish, then everything is undone.
    pub async fn cancel(&self, id: &str) -> Result<(), Problem> {
        let operation = self.get(id).await?;
        if !self.definition(&operation.kind)?.cancellable() {
            let message = format!("{} cannot be taken back; it goes forward to its end", operation.kind);
            return Err(Problem::conflict("not_cancellable", message).with_operation(operation.id));
        }
        if operation.steps.iter().any(|step| step.policy.no_way_back && step.state != OperationState::Pending) {
            let message = "the operation has reached its goal and is just tidying up";
            return Err(Problem::conflict("not_cancellable", message).with_operation(operation.id));
        }
        let wanted = id.to_owned();
        let marked = self.shared.store.write(move |connection| record::request_cancel(connection, &wanted)).await?;
        if !marked {
            let message = format!("the operation is {} and cannot be cancelled", self.get(id).await?.state);
            return Err(Problem::conflict("not_cancellable", message).with_operation(operation.id));
        }
        if let Ok(active) = self.active_or_ended(id).await? {
            active.cancel.cancel();
        }
        Ok(())
    }

    /// Lets every operation finish its current step, and stops there; [`Self::resume`] goes on from it.
    pub async fn stop(&self, grace: Duration) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some operations are still inside a step; they will be resumed at the next start");
        }
    }

    /// Forgets old operations now; also done every hour by [`Self::keep_tidy`].
    pub async fn forget_old(&self) -> Result<usize, Problem> {
        super::retention::forget_old(&self.shared).await
    }

    /// Forgets old operations every hour until the engine stops.
    pub async fn keep_tidy(self) {
        loop {
            if let Err(problem) = self.forget_old().await {
                tracing::warn!(%problem, "old operations could not be forgotten");
            }
            tokio::select! {
                () = self.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(3600)) => {}
            }
        }
    }

    pub(super) fn definition(&self, kind: &str) -> Result<Arc<dyn OperationKind>, Problem> {
        self.shared.kinds.get(kind).cloned().ok_or_else(|| Problem::internal(format!("no operation is called {kind}")))
    }

    /// Sets an operation to work. With a permit its first step has begun already.
    fn launch(&self, operation: OperationRecord, permit: Option<OwnedSemaphorePermit>) {
        let id = operation.id.clone();
        let cancel = CancellationToken::new();
        if operation.cancel_requested {
            cancel.cancel();
        }
        let (publisher, snapshot) = watch::channel(Arc::new(operation.clone()));
        self.active().insert(id.clone(), Active { snapshot, cancel: cancel.clone() });
        let engine = self.clone();
        self.shared.tasks.spawn(async move {
            match engine.definition(&operation.kind) {
                Ok(definition) => {
                    execute::run(&engine, &*definition, operation, (&publisher, cancel), permit).await;
                }
                Err(problem) => {
                    tracing::error!(%problem, operation = %id, "an operation of an unknown kind is left as it is")
                }
            }
            engine.active().remove(&id);
        });
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, Active>> {
        // Nothing that holds this lock can panic half-way through a change.
        self.shared.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conflict(active: &OperationRecord) -> Problem {
    let message = format!("{} is busy with {} ({}); wait for it to end", active.subject, active.kind, active.id);
    Problem::locked("operation_conflict", message).with_operation(&active.id)
}
