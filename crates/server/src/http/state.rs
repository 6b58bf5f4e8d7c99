//! What every handler can reach.

use crate::audit::Audit;
use crate::config::Config;
use crate::engines::service::EngineService;
use crate::http::limiter::Limiter;
use crate::http::metrics::Metrics;
use crate::instances::reconcile::Reconciler;
use crate::instances::{InstanceService, World, record};
use crate::migrations::MigrationService;
use crate::operations::{Engine, EngineConfig, Observer, OperationRecord, StepRecord};
use crate::previews::reconcile::{Keeper, Nudge};
use crate::previews::{PreviewService, PreviewWorld};
use crate::secrets::Sealer;
use crate::store::Store;
use crate::templates::TemplateService;
use crate::tokens::Tokens;
use jiff::Timestamp;
use pgdb_core::random::Entropy;
use pgdb_core::time::Clock;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The daemon's parts, shared by all clones. One pointer, because every layer of every request clones it.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What [`App`] shares.
#[derive(Clone)]
pub struct Parts {
    /// What the daemon was told.
    pub config: Arc<Config>,
    /// The state.
    pub store: Store,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Seals and opens secrets.
    pub sealer: Arc<Sealer>,
    /// Knows who may do what.
    pub tokens: Arc<Tokens>,
    /// Writes down who did what.
    pub audit: Arc<Audit>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Runs operations.
    pub operations: Engine,
    /// What instances can be asked.
    pub instances: InstanceService,
    /// What previews can be asked.
    pub previews: PreviewService,
    /// What templates can be asked.
    pub templates: TemplateService,
    /// What migrations of many databases can be asked.
    pub migrations: MigrationService,
    /// What PostgreSQL installations can be asked.
    pub engines: EngineService,
    /// Keeps previews as they should be.
    pub keeper: Keeper,
    /// Keeps servers running.
    pub reconciler: Reconciler,
    /// Slows down guessing of tokens.
    pub(crate) limiter: Arc<Limiter>,
    /// Whether requests can be served.
    pub ready: Arc<Ready>,
    /// How long a route that does not wait for an operation may take.
    pub time_limit: Duration,
    /// Requests that change something; they outlive their connection.
    pub requests: TaskTracker,
    /// Cancelled when the daemon is to end.
    pub shutdown: CancellationToken,
    /// Whether the databases are to end with the daemon.
    pub stop_databases: Arc<AtomicBool>,
}

impl App {
    /// Puts the parts together; the daemon is not ready yet.
    pub fn new(
        config: Arc<Config>,
        store: Store,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        sealer: Arc<Sealer>,
        tokens: Arc<Tokens>,
        world: Arc<World>,
        previews: Arc<PreviewWorld>,
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let counted = store.clone();
        metrics.count_instances_with(move || counted.read_now(record::count_by_state).unwrap_or_default());
        let reconciler = Reconciler::new(Arc::clone(&world));
        let kinds = [
            crate::instances::steps::kinds(&world),
            crate::engines::steps::kinds(&world),
            crate::previews::steps::kinds(&previews),
            crate::templates::kinds(&previews),
            crate::migrations::steps::kinds(&previews),
        ]
        .concat();
        let nudge = Nudge(Arc::clone(&previews));
        let observers: Vec<Arc<dyn Observer>> =
            vec![Arc::new(Counted(Arc::clone(&metrics))), Arc::new(reconciler.clone()), Arc::new(nudge)];
        let (engine_clock, engine_entropy) = (Arc::clone(&clock), Arc::clone(&entropy));
        let limits = EngineConfig::default();
        let operations = Engine::new(store.clone(), engine_clock, engine_entropy, limits, kinds, observers);
        let instances = InstanceService::new(Arc::clone(&world), operations.clone());
        let migrations = MigrationService::new(Arc::clone(&previews), operations.clone());
        let templates = TemplateService::new(Arc::clone(&previews), operations.clone());
        let previews = PreviewService::new(previews, operations.clone(), instances.clone());
        Self(Arc::new(Parts {
            keeper: Keeper::new(previews.clone(), operations.clone()),
            previews,
            templates,
            migrations,
            instances,
            engines: EngineService::new(world, operations.clone()),
            operations,
            reconciler,
            config,
            audit: Arc::new(Audit::start(store.clone(), Arc::clone(&clock))),
            store,
            clock,
            entropy,
            sealer,
            tokens,
            metrics,
            limiter: Arc::new(Limiter::default()),
            ready: Arc::new(Ready::default()),
            time_limit: TIME_LIMIT,
            requests: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            stop_databases: Arc::new(AtomicBool::new(false)),
        }))
    }

    /// The parts, to change some before the daemon runs; clones made before keep the old ones.
    pub fn parts_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.0)
    }

    /// Ends the daemon, and the databases with it if `stop_databases`.
    pub fn shut_down(&self, stop_databases: bool) {
        self.stop_databases.fetch_or(stop_databases, Ordering::SeqCst);
        self.shutdown.cancel();
    }
}

/// Counts ends of operations and steps.
struct Counted(Arc<Metrics>);

impl Observer for Counted {
    fn step_ended(&self, operation: &OperationRecord, step: &StepRecord) {
        let seconds = seconds(step.started_at, step.finished_at);
        self.0.step_finished(&operation.kind, &step.name, step.state.as_str(), seconds);
    }

    fn operation_ended(&self, operation: &OperationRecord) {
        let seconds = seconds(Some(operation.created_at), operation.finished_at);
        self.0.operation_finished(&operation.kind, operation.state.as_str(), seconds);
    }
}

/// The time between two points of the wall clock; none when it went backwards in between.
fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> f64 {
    let (Some(from), Some(to)) = (from, to) else { return 0.0 };
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Whether requests can be served, and why not.
#[derive(Debug)]
pub struct Ready(RwLock<Option<String>>);

impl Default for Ready {
    fn default() -> Self {
        Self(RwLock::new(Some("the daemon is starting".to_owned())))
    }
}

impl Ready {
    /// `None`: ready. Else why not.
    pub fn set(&self, reason: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why requests cannot be served; `None` when they can.
    pub fn reason(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
