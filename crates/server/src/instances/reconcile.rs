//! Keeps servers as they should be: compares what was asked for with what is seen, and mends it.
//!
//! It takes no input but the rows and the runtimes, does nothing when they agree, and runs on events (a server's end,
//! an operation's end) as well as on a slow tick, because an event can be missed.

use super::record::{self, InstanceRecord};
use super::world::{World, runtime_problem};
use crate::operations::{Observer, OperationRecord, StepRecord, record as operation_rows};
use crate::problem::Problem;
use pgdb_core::instance::{DesiredState, InstanceState, RuntimeKind};
use pgdb_runtime::spec::{Observed, ServerSpec};
use pgdb_runtime::{Runtime, RuntimeError};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The slow tick.
const TICK: Duration = Duration::from_secs(30);
/// How many ticks lie between two measurements of the disk that an instance without a size takes.
const MEASURE_TICKS: u64 = 20;
/// Pauses between restarts of a server that keeps ending, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So many ends, each within [`SETTLED_MS`] of its start, are a crash loop.
const CRASH_LOOP: u32 = 5;
/// A server that has run this long has settled.
const SETTLED_MS: u64 = 60_000;
/// A server whose end nobody tells of is looked at this often.
const LONGEST_WATCH: Duration = Duration::from_secs(90);
/// Between two looks for a container engine that is away.
const ENGINE_PAUSE: Duration = Duration::from_secs(2);
/// Servers looked at or started at the same time.
const AT_ONCE: usize = 4;

/// Watches over every instance. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    shared: Arc<Shared>,
}

struct Shared {
    world: Arc<World>,
    /// By instance id: how its restarts went.
    history: Mutex<HashMap<String, History>>,
    /// Ids with a task that tends them, and whether something has happened meanwhile that it may have missed.
    watched: Mutex<HashMap<String, bool>>,
    permits: Semaphore,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Times are of the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
struct History {
    /// Ends in a row, each soon after a start.
    failures: u32,
    /// When we last started the server, until its end is seen.
    started_ms: Option<u64>,
    /// No start before this.
    not_before_ms: u64,
}

impl History {
    /// How much longer a server that kept ending has to run before it counts as settled.
    fn unsettled(self, now_ms: u64) -> Option<Duration> {
        let ran = now_ms.saturating_sub(self.started_ms?);
        (self.failures >= CRASH_LOOP && ran < SETTLED_MS).then(|| Duration::from_millis(SETTLED_MS - ran))
    }
}

/// What became of one look at an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Its server runs: wait for its end, or look again after a while.
    Watch(Option<Duration>),
    /// Try again after a pause.
    Again(Duration),
    /// Nothing to wait for.
    Settled,
}

impl Reconciler {
    /// A reconciler that is not at work yet.
    pub fn new(world: Arc<World>) -> Self {
        let shared = Shared {
            world,
            history: Mutex::default(),
            watched: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Notes which servers have ended while no daemon ran, before anybody is told that they run.
    pub async fn first_look(&self) -> Result<(), Problem> {
        let world = &self.shared.world;
        let mut by_runtime: BTreeMap<RuntimeKind, Vec<(InstanceRecord, ServerSpec)>> = BTreeMap::new();
        for instance in world.store.read(record::all).await? {
            let Ok(spec) = world.spec(&instance) else { continue };
            by_runtime.entry(instance.runtime).or_default().push((instance, spec));
        }
        for (kind, instances) in by_runtime {
            let Ok(runtime) = world.runtime(kind) else { continue };
            let specs: Vec<ServerSpec> = instances.iter().map(|(_, spec)| spec.clone()).collect();
            // What cannot be looked at is the tick's to report.
            let Ok(observed) = runtime.observe_all(&specs).await else { continue };
            for ((instance, _), observed) in instances.iter().zip(observed) {
                if instance.state == InstanceState::Running && !matches!(observed, Observed::Running { .. }) {
                    let reason = "its server ended while the daemon was away; it is being started";
                    self.note(instance, InstanceState::Degraded, Some(reason)).await?;
                }
            }
        }
        Ok(())
    }

    /// Adopts running servers, starts those that should run, and goes on watching until [`Self::stop`].
    pub async fn run(self) {
        for tick in 0u64.. {
            if let Err(problem) = self.look_at_all(tick).await {
                tracing::warn!(%problem, "instances could not be looked at; trying again at the next tick");
            }
            tokio::select! {
                () = self.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Ends the watching; servers go on as they are.
    pub async fn stop(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Stops every server cleanly, after [`Self::stop`]; what they should be does not change, so that the next
    /// daemon starts them again.
    pub async fn stop_servers(&self) -> Result<(), Problem> {
        let instances = self.shared.world.store.read(record::all).await?;
        let stops = instances.iter().map(|instance| self.stop_server(instance));
        for outcome in futures::future::join_all(stops).await {
            if let Err(problem) = outcome {
                tracing::error!(%problem, "a server could not be stopped");
            }
        }
        Ok(())
    }

    async fn stop_server(&self, instance: &InstanceRecord) -> Result<(), Problem> {
        let _lock = self.shared.world.lock(&instance.id).await;
        let spec = self.shared.world.spec(instance)?;
        let runtime = self.shared.world.runtime(instance.runtime)?;
        runtime.stop(&spec).await.map_err(|error| runtime_problem(&error))
    }

    /// Looks at every instance now instead of at the next tick.
    pub fn look_at_all_now(&self) {
        let reconciler = self.clone();
        self.shared.tasks.spawn(async move {
            if let Err(problem) = reconciler.look_at_all(1).await {
                tracing::warn!(%problem, "instances could not be looked at");
            }
        });
    }

    async fn look_at_all(&self, tick: u64) -> Result<(), Problem> {
        for instance in self.shared.world.store.read(record::all).await? {
            self.look_at(instance.id.clone());
            if tick.is_multiple_of(MEASURE_TICKS) || instance.size_gb.is_some() {
                self.measure(&instance).await?;
            }
        }
        Ok(())
    }

    /// Notes how much disk a running instance takes, and keeps its logs from piling up.
    async fn measure(&self, instance: &InstanceRecord) -> Result<(), Problem> {
        if instance.state != InstanceState::Running {
            return Ok(());
        }
        let world = &self.shared.world;
        let (spec, runtime) = (world.spec(instance)?, world.runtime(instance.runtime)?);
        if let Err(error) = runtime.prune_logs(&spec).await {
            tracing::warn!(instance = %instance.name, %error, "old logs could not be removed");
        }
        match runtime.disk_usage(&spec).await {
            Ok(bytes) if instance.disk_bytes != Some(bytes) => {
                let id = instance.id.clone();
                world.store.write(move |connection| record::set_disk_bytes(connection, &id, bytes)).await
            }
            _ => Ok(()),
        }
    }

    /// Sees to one instance, unless somebody is at it already.
    fn look_at(&self, id: String) {
        if self.shared.stopping.is_cancelled() {
            return;
        }
        if let Some(again) = self.watched().get_mut(&id) {
            *again = true;
            return;
        }
        self.watched().insert(id.clone(), false);
        let reconciler = self.clone();
        self.shared.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = reconciler.shared.stopping.cancelled() => return,
                    () = reconciler.tend(&id) => {}
                }
                let mut watched = reconciler.watched();
                if watched.remove(&id) != Some(true) {
                    return;
                }
                watched.insert(id.clone(), false);
            }
        });
    }

    /// Tends one instance until there is nothing to wait for.
    async fn tend(&self, id: &str) {
        loop {
            let outcome = self.mend(id).await.unwrap_or_else(|problem| {
                tracing::warn!(instance = id, %problem, "an instance could not be mended");
                Outcome::Again(LONGEST_PAUSE)
            });
            match outcome {
                Outcome::Settled => return,
                Outcome::Again(pause) => tokio::time::sleep(pause).await,
                Outcome::Watch(at_most) => {
                    // A message of its end can be lost on the way.
                    let at_most = at_most.unwrap_or(LONGEST_WATCH);
                    tokio::time::timeout(at_most, self.wait_for_end(id)).await.unwrap_or_default();
                    // An operation that stops the server holds the lock; wait for it instead of racing it.
                    drop(self.shared.world.lock(id).await);
                }
            }
        }
    }

    async fn wait_for_end(&self, id: &str) {
        let Ok(Some(instance)) = self.shared.world.by_id(id).await else { return };
        let (Ok(spec), Ok(runtime)) = (self.shared.world.spec(&instance), self.shared.world.runtime(instance.runtime))
        else {
            return;
        };
        if let Err(error) = runtime.exited(&spec).await {
            tracing::warn!(instance = %instance.name, %error, "a server's end cannot be waited for");
            tokio::time::sleep(TICK).await;
        }
    }

    /// Compares one instance with what it should be, and brings it there.
    async fn mend(&self, id: &str) -> Result<Outcome, Problem> {
        let world = &self.shared.world;
        let _permit = self.shared.permits.acquire().await.map_err(|error| Problem::internal(error.to_string()))?;
        let Some(_lock) = world.try_lock(id) else { return Ok(Outcome::Settled) };
        let Some(instance) = world.by_id(id).await? else { return Ok(Outcome::Settled) };
        let subject = instance.subject();
        let active = world.store.read(move |connection| operation_rows::active_on(connection, &subject)).await?;
        if active.is_some() {
            // Its end brings us back.
            return Ok(Outcome::Settled);
        }
        let spec = world.spec(&instance)?;
        let runtime = Arc::clone(world.runtime(instance.runtime)?);
        let observed = match runtime.observe(&spec).await {
            Ok(observed) => observed,
            Err(error @ RuntimeError::ContainersUnavailable { .. }) => {
                if instance.state == InstanceState::Running {
                    self.note(&instance, InstanceState::Degraded, Some(&error.to_string())).await?;
                }
                return Ok(Outcome::Again(ENGINE_PAUSE));
            }
            // Two who act on one container get in each other's way for a moment.
            Err(error @ RuntimeError::Containers { .. }) => {
                tracing::warn!(instance = %instance.name, %error, "a container could not be looked at");
                return Ok(Outcome::Again(ENGINE_PAUSE));
            }
            Err(error) => return Err(runtime_problem(&error)),
        };
        self.note_container(&instance, &observed).await?;
        match (instance.desired, observed) {
            _ if instance.state == InstanceState::Creating => {
                let reason = "its deploy neither ended nor could be taken back; destroy it";
                self.note(&instance, InstanceState::Degraded, Some(reason)).await?;
                Ok(Outcome::Settled)
            }
            _ if instance.state == InstanceState::Destroying => {
                let reason = "its destroy did not end; destroy it again, with --keep-data if its data is to be kept";
                self.note(&instance, InstanceState::Degraded, Some(reason)).await?;
                Ok(Outcome::Settled)
            }
            (DesiredState::Running, Observed::Running { .. }) => {
                let now_ms = world.clock.monotonic_ms();
                if let Some(rest) = self.history().get(id).and_then(|history| history.unsettled(now_ms)) {
                    return Ok(Outcome::Watch(Some(rest)));
                }
                self.note(&instance, InstanceState::Running, None).await?;
                Ok(Outcome::Watch(None))
            }
            (DesiredState::Running, Observed::Missing) => {
                let reason = "its data is gone; destroy it, or put the data back";
                self.note(&instance, InstanceState::Degraded, Some(reason)).await?;
                Ok(Outcome::Settled)
            }
            (DesiredState::Running, Observed::Stopped | Observed::Starting { .. }) => {
                self.start(&*runtime, &spec, &instance).await
            }
            (DesiredState::Stopped, Observed::Running { .. } | Observed::Starting { .. }) => {
                tracing::info!(instance = %instance.name, "stopping a server that should not run");
                runtime.stop(&spec).await.map_err(|error| runtime_problem(&error))?;
                self.note(&instance, InstanceState::Stopped, None).await?;
                Ok(Outcome::Settled)
            }
            (DesiredState::Stopped, Observed::Stopped | Observed::Missing) => {
                if instance.state == InstanceState::Running {
                    self.note(&instance, InstanceState::Stopped, None).await?;
                }
                Ok(Outcome::Settled)
            }
        }
    }

    /// Starts a server that should run and does not, at once the first time and after longer pauses if it keeps ending.
    async fn start(
        &self,
        runtime: &dyn Runtime,
        spec: &ServerSpec,
        instance: &InstanceRecord,
    ) -> Result<Outcome, Problem> {
        let now_ms = self.shared.world.clock.monotonic_ms();
        let mut history = self.history().get(&instance.id).copied().unwrap_or_default();
        if let Some(started_ms) = history.started_ms.take() {
            let settled = now_ms.saturating_sub(started_ms) >= SETTLED_MS;
            history.failures = if settled { 0 } else { history.failures + 1 };
            history.not_before_ms = if settled { now_ms } else { after(now_ms, pause_after(history.failures)) };
        }
        if history.failures >= CRASH_LOOP {
            let log = runtime.last_log_lines(spec).await.unwrap_or_default();
            let why = log.last().map_or("its log does not say why", String::as_str);
            self.note(instance, InstanceState::Degraded, Some(&format!("its server keeps ending: {why}"))).await?;
        }
        if now_ms < history.not_before_ms {
            self.history().insert(instance.id.clone(), history);
            return Ok(Outcome::Again(Duration::from_millis(history.not_before_ms - now_ms)));
        }
        tracing::warn!(instance = %instance.name, failures = history.failures, "a server that should run does not; starting it");
        let started = runtime.start(spec).await;
        let now_ms = self.shared.world.clock.monotonic_ms();
        let outcome = match started {
            Ok(()) => {
                history.started_ms = Some(now_ms);
                if let Ok(observed) = runtime.observe(spec).await {
                    self.note_container(instance, &observed).await?;
                }
                if history.failures < CRASH_LOOP {
                    self.note(instance, InstanceState::Running, None).await?;
                }
                Outcome::Watch(history.unsettled(now_ms))
            }
            Err(error) => {
                history.failures += 1;
                let pause = pause_after(history.failures);
                history.not_before_ms = after(now_ms, pause);
                let reason = runtime_problem(&error).message;
                self.note(instance, InstanceState::Degraded, Some(&reason)).await?;
                Outcome::Again(pause)
            }
        };
        self.history().insert(instance.id.clone(), history);
        Ok(outcome)
    }

    /// Notes which container a server runs in: it is another one after somebody has removed it.
    async fn note_container(&self, instance: &InstanceRecord, observed: &Observed) -> Result<(), Problem> {
        match observed {
            Observed::Running { container: Some(container), .. } if instance.container.as_ref() != Some(container) => {
                let (id, container) = (instance.id.clone(), container.clone());
                let note = move |connection: &rusqlite::Connection| record::set_container(connection, &id, &container);
                self.shared.world.store.write(note).await
            }
            _ => Ok(()),
        }
    }

    async fn note(&self, instance: &InstanceRecord, state: InstanceState, reason: Option<&str>) -> Result<(), Problem> {
        if instance.state == state && instance.reason.as_deref() == reason {
            return Ok(());
        }
        tracing::info!(instance = %instance.name, %state, reason, "an instance has changed");
        let (id, reason) = (instance.id.clone(), reason.map(str::to_owned));
        let change =
            move |connection: &rusqlite::Connection| record::set_state(connection, &id, state, reason.as_deref());
        self.shared.world.store.write(change).await
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, HashMap<String, History>> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(now_ms: u64, pause: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}

fn pause_after(failures: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(failures.min(16))).min(LONGEST_PAUSE)
}

impl Observer for Reconciler {
    fn step_ended(&self, _: &OperationRecord, _: &StepRecord) {}

    fn operation_ended(&self, operation: &OperationRecord) {
        if let Some(id) = operation.input["id"].as_str().filter(|_| operation.subject.starts_with("instance/")) {
            self.history().remove(id);
            self.look_at(id.to_owned());
        }
    }
}
