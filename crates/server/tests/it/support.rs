//! A daemon without sockets.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use pgdb_core::random::Entropy;
use pgdb_core::time::Clock;
use pgdb_server::config::{EnvSecrets, Options, Surroundings};
use pgdb_server::daemon;
use pgdb_server::http::router::router;
use pgdb_server::http::state::App;
use pgdb_server::system::SystemEntropy;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tower::ServiceExt;

/// 256 bits, for tests alone.
pub(crate) const ADMIN: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
pub(crate) const WEAK: &str = "dev-token";

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A clock that moves when it is told to.
pub(crate) struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    fn new() -> Self {
        Self { wall_ms: AtomicI64::new(1_780_000_000_000), monotonic_ms: AtomicU64::new(5_000) }
    }

    /// Time goes by.
    pub(crate) fn pass(&self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(i64::try_from(ms).unwrap_or(0), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_back(&self, ms: i64) {
        self.wall_ms.fetch_sub(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

pub(crate) struct Daemon {
    pub(crate) app: App,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: tempfile::TempDir,
    router: Router,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The error's code, once everything that every error has is there.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"), "{}", self.text);
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.text);
        body["error"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) fn secrets(pgdb_token: &str) -> EnvSecrets {
    EnvSecrets { pgdb_token: Some(pgdb_token.to_owned().into()), ..EnvSecrets::default() }
}

/// Opens a daemon on a data directory.
pub(crate) async fn open(folder: &Path, secrets: &EnvSecrets, clock: Arc<dyn Clock>) -> anyhow::Result<App> {
    let options = Options { data_dir: Some(folder.to_owned()), ..Options::default() };
    let config = Arc::new(options.resolve(secrets, &Surroundings::of_this_process()?)?);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    daemon::open(config, secrets, (clock, entropy)).await
}

impl Daemon {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(secrets(ADMIN)).await
    }

    pub(crate) async fn start_with(secrets: EnvSecrets) -> anyhow::Result<Self> {
        let (folder, clock) = (tempfile::tempdir()?, Arc::new(ManualClock::new()));
        let app = open(folder.path(), &secrets, clock.clone()).await?;
        Ok(Self { router: router(app.clone()), app, clock, folder })
    }

    /// With some of its parts changed.
    pub(crate) async fn start_changed(change: impl FnOnce(&mut App)) -> anyhow::Result<Self> {
        let mut daemon = Self::start().await?;
        change(&mut daemon.app);
        daemon.router = router(daemon.app.clone());
        Ok(daemon)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> anyhow::Result<Answer> {
        let response = self.router.clone().oneshot(request).await?;
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 16 << 20).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: parts.status, headers: parts.headers, text })
    }

    /// A request with a token (none when empty) and a JSON body (none when empty), from one fixed address.
    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> anyhow::Result<Answer> {
        self.call_from([192, 0, 2, 1], method, path, token, body).await
    }

    pub(crate) async fn call_from(
        &self,
        client: [u8; 4],
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.extension(ConnectInfo(SocketAddr::from((client, 4000))));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned()))?).await
    }

    /// A new token with these scopes.
    pub(crate) async fn token(&self, scopes: &[&str], expires_in: Option<u64>) -> anyhow::Result<(String, String)> {
        let mut body = serde_json::json!({"name": "test", "scopes": scopes});
        if let Some(seconds) = expires_in {
            body["expires_in_seconds"] = seconds.into();
        }
        let answer = self.call("POST", "/v1/tokens", ADMIN, &body.to_string()).await?;
        anyhow::ensure!(answer.status == StatusCode::CREATED, "{}", answer.text);
        let body = answer.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&body["token"]), text(&body["info"]["id"])))
    }
}
