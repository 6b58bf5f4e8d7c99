//! Numbers for Prometheus.

use super::error::HttpError;
use super::routes::Routes;
use super::rule::Rule;
use super::state::App;
use axum::extract::State;
use axum::http::{HeaderName, header};
use pgdb_api::errors::ErrorBody;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::{Mutex, OnceLock, PoisonError};
use utoipa_axum::routes;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    kind: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    kind: String,
    step: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

/// How many instances there are in each state.
type InstanceCounts = Box<dyn Fn() -> Vec<(String, i64)> + Send + Sync>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Counters, durations and gauges.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    operations: Family<OperationLabels, Counter>,
    operation_seconds: Histograms<OperationLabels>,
    step_seconds: Histograms<StepLabels>,
    instances: Family<StateLabels, Gauge>,
    instance_counts: OnceLock<InstanceCounts>,
    /// One scrape at a time: the gauges are set anew for each.
    scrape: Mutex<()>,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let histograms: fn() -> Histogram = seconds;
        let mut metrics = Self {
            registry: Registry::with_prefix("pgdb"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(histograms),
            operations: Family::default(),
            operation_seconds: Family::new_with_constructor(histograms),
            step_seconds: Family::new_with_constructor(histograms),
            instances: Family::default(),
            instance_counts: OnceLock::new(),
            scrape: Mutex::new(()),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "Requests by route, method and status", metrics.requests.clone());
        registry.register("http_request_seconds", "How long requests took", metrics.request_seconds.clone());
        registry.register("operations", "Operations that ended", metrics.operations.clone());
        registry.register("operation_seconds", "How long operations took", metrics.operation_seconds.clone());
        registry.register("step_seconds", "How long an attempt at a step took", metrics.step_seconds.clone());
        registry.register("instances", "Instances by state", metrics.instances.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which pgdb this is", build);
        metrics
    }
}

impl Metrics {
    pub(super) fn request_finished(&self, route: &str, method: &'static str, status: u16, took_ms: u64) {
        let route = route.to_owned();
        self.requests.get_or_create(&RequestLabels { route: route.clone(), method, status }).inc();
        #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 ms")]
        let seconds = took_ms as f64 / 1000.0;
        self.request_seconds.get_or_create(&RouteLabels { route, method }).observe(seconds);
    }

    /// Notes the end of an operation. `outcome` is its last state, such as `succeeded`.
    pub fn operation_finished(&self, kind: &str, outcome: &str, seconds: f64) {
        let labels = OperationLabels { kind: kind.to_owned(), outcome: outcome.to_owned() };
        self.operations.get_or_create(&labels).inc();
        self.operation_seconds.get_or_create(&labels).observe(seconds);
    }

    /// Notes the end of an attempt at a step.
    pub fn step_finished(&self, kind: &str, step: &str, outcome: &str, seconds: f64) {
        let labels = StepLabels { kind: kind.to_owned(), step: step.to_owned(), outcome: outcome.to_owned() };
        self.step_seconds.get_or_create(&labels).observe(seconds);
    }

    /// Says where to ask how many instances there are in each state; asked at each scrape, so it must be quick.
    /// The first call counts.
    pub fn count_instances_with(&self, counts: impl Fn() -> Vec<(String, i64)> + Send + Sync + 'static) {
        let _ = self.instance_counts.set(Box::new(counts));
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let _scrape = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = self.instance_counts.get() {
            self.instances.clear();
            for (state, count) in counts() {
                self.instances.get_or_create(&StateLabels { state }).set(count);
            }
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

pub(super) fn routes() -> Routes {
    Routes::new().route(Rule::open(), routes!(metrics))
}

/// Numbers for Prometheus; 404 when the daemon was told to keep them.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = 404, body = ErrorBody, description = "switched off")
    )
)]
async fn metrics(State(app): State<App>) -> Result<([(HeaderName, &'static str); 1], String), HttpError> {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if !app.config.metrics {
        return Err(HttpError::not_found());
    }
    Ok(([(header::CONTENT_TYPE, TYPE)], app.metrics.render()))
}
