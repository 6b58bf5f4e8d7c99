//! `/liveness`, `/readiness` and `/metrics`.

use super::board::Board;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use pgdb_api::health::Health;
use pgdb_api::migrate_watch::WatchReadiness;
use pgdb_pg::PgError;
use pgdb_pg::migrate::session::Login;
use pgdb_pg::presence;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

/// How long the server may take to answer; Kubernetes gives a probe a second by default.
const ANSWER: Duration = Duration::from_millis(800);
/// An answer counts for this long, so that nobody can make us log in more often by asking more often.
const FRESH: Duration = Duration::from_secs(1);

/// What the probes look at.
#[derive(Clone)]
pub(super) struct Probed {
    pub(super) board: Arc<Board>,
    /// Woken when PostgreSQL turns out not to answer.
    pub(super) alarm: Arc<Notify>,
    login: Login,
    last: Arc<Mutex<Option<Asked>>>,
}

/// Whether PostgreSQL answered.
struct Asked {
    when: Instant,
    /// Why it did not.
    silent: Option<String>,
}

impl Probed {
    pub(super) fn new(board: Arc<Board>, alarm: Arc<Notify>, login: &Login) -> Self {
        let login = Login { timeout: ANSWER, ..login.clone() };
        Self { board, alarm, login, last: Arc::default() }
    }

    /// Why PostgreSQL does not answer, if it does not. One asks, the others wait for the same answer.
    async fn silent(&self) -> Option<String> {
        let mut last = self.last.lock().await;
        if let Some(asked) = &*last
            && asked.when.elapsed() < FRESH
        {
            return asked.silent.clone();
        }
        let answer = presence::answers(&self.login).await.err().map(|error| describe(&error));
        if answer.is_some() {
            self.alarm.notify_one();
        }
        *last = Some(Asked { when: Instant::now(), silent: answer.clone() });
        answer
    }
}

/// An error of PostgreSQL with its reason, on one line. Neither holds a password.
pub(super) fn describe(error: &PgError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(current) = source {
        text = format!("{text}: {current}");
        source = current.source();
    }
    text
}

/// The routes. None needs a token: they tell whether, and hold no secret.
pub(super) fn router(probed: Probed) -> Router {
    Router::new()
        .route("/liveness", get(liveness))
        .route("/healthz", get(liveness))
        .route("/readiness", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(probed)
}

async fn liveness() -> Json<Health> {
    Json(Health { ok: true })
}

async fn readiness(State(probed): State<Probed>) -> (StatusCode, Json<WatchReadiness>) {
    let mut readiness = probed.board.readiness();
    if readiness.ready
        && let Some(why) = probed.silent().await
    {
        readiness.ready = false;
        readiness.reason = Some(format!("PostgreSQL does not answer: {why}"));
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn metrics(State(probed): State<Probed>) -> ([(HeaderName, &'static str); 1], String) {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], probed.board.metrics())
}
