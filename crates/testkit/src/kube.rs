//! A stand-in for the Kubernetes API: one ConfigMap, listed and watched by the documented protocol.
//!
//! Real are the paths, the selector, resource versions, the stream of `ADDED`, `MODIFIED`, `DELETED` and `BOOKMARK`
//! events, `410 Gone` for a version that is too old, and `403 Forbidden` as RBAC answers. It speaks HTTP without TLS.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The namespace of the ConfigMap.
pub const NAMESPACE: &str = "tests";
/// Its name.
pub const NAME: &str = "postgres-migrations";

/// What the server knows, shared by all its connections, and kept when it is restarted.
#[derive(Debug)]
struct World {
    version: u64,
    /// Watches from before this version are answered with 410.
    oldest: u64,
    forbidden: bool,
    /// The object, if there is one, with the version of its last change.
    data: Option<(u64, BTreeMap<String, String>)>,
    /// Every event with its version.
    events: Vec<(u64, Value)>,
    requests: Vec<String>,
}

#[derive(Debug, Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    /// Its value counts what has happened, so that open watches look again.
    happened: Arc<watch::Sender<u64>>,
    /// The open watches end when this grows.
    cut: Arc<watch::Sender<u64>>,
}

/// A running stand-in; dropping it ends it.
#[derive(Debug)]
pub struct KubeApi {
    shared: Shared,
    address: SocketAddr,
    /// A runtime of its own, for with it all its connections end at once.
    server: Option<Runtime>,
}

impl KubeApi {
    /// Starts on a port of the system's choice, without a ConfigMap.
    pub fn start() -> Self {
        let world =
            World { version: 100, oldest: 0, forbidden: false, data: None, events: Vec::new(), requests: Vec::new() };
        let shared = Shared {
            world: Arc::new(Mutex::new(world)),
            happened: Arc::new(watch::Sender::new(0)),
            cut: Arc::new(watch::Sender::new(0)),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut api = Self { shared, address, server: None };
        api.serve(listener);
        api
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new()
            .route("/api/v1/namespaces/{namespace}/configmaps", get(list_or_watch))
            .with_state(self.shared.clone());
        listener.set_nonblocking(true).expect("a listener for tokio");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio's");
            axum::serve(listener, router).await.expect("the stand-in serves");
        });
        self.server = Some(runtime);
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, folder: &FilePath) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {"token": "nothing"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        });
        // JSON is YAML.
        std::fs::write(&path, text.to_string()).expect("write the kubeconfig");
        path
    }

    /// Makes the ConfigMap, or replaces what it holds.
    pub fn apply(&self, entries: &[(&str, &str)]) {
        let entries = entries.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        self.change(|world| {
            let kind = if world.data.is_some() { "MODIFIED" } else { "ADDED" };
            world.data = Some((world.version, entries));
            kind
        });
    }

    /// Removes the ConfigMap.
    pub fn delete(&self) {
        self.change(|world| {
            if let Some((version, _)) = &mut world.data {
                *version = world.version;
            }
            "DELETED"
        });
        self.world(|world| world.data = None);
    }

    /// From now on nobody may list or watch, or may again. Open watches end.
    pub fn forbid(&self, forbidden: bool) {
        self.world(|world| world.forbidden = forbidden);
        self.cut_watches();
    }

    /// Ends all watches without a word, and forgets events: who asks for what came after them is told 410.
    pub fn compact(&self) {
        self.world(|world| {
            world.version += 1;
            world.oldest = world.version;
            world.events.clear();
        });
        self.cut_watches();
    }

    /// Stops listening, and drops all connections.
    pub async fn stop(&mut self) {
        let server = self.server.take().expect("the stand-in runs");
        let ended = tokio::task::spawn_blocking(move || server.shutdown_timeout(Duration::from_secs(5)));
        ended.await.expect("the stand-in ends");
    }

    /// Listens again at the same address.
    pub fn resume(&mut self) {
        assert!(self.server.is_none(), "the stand-in runs");
        let listener = TcpListener::bind(self.address).expect("the same port again");
        self.serve(listener);
    }

    /// Requests so far, as path and query.
    pub fn requests(&self) -> Vec<String> {
        self.world(|world| world.requests.clone())
    }

    fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.shared.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut World) -> &'static str) {
        self.world(|world| {
            world.version += 1;
            let kind = change(world);
            let event = json!({"type": kind, "object": world.object().expect("there is an object")});
            world.events.push((world.version, event));
        });
        self.shared.happened.send_modify(|count| *count += 1);
    }

    fn cut_watches(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl World {
    fn object(&self) -> Option<Value> {
        let (version, data) = self.data.as_ref()?;
        Some(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": version.to_string()},
        }))
    }
}

async fn list_or_watch(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    axum::extract::OriginalUri(uri): axum::extract::OriginalUri,
) -> Response {
    let ours = namespace == NAMESPACE
        && query.get("fieldSelector").is_none_or(|selector| selector == &format!("metadata.name={NAME}"));
    let cut = shared.cut.subscribe();
    let mut world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
    world.requests.push(uri.to_string());
    if world.forbidden {
        return status(StatusCode::FORBIDDEN, "Forbidden", "configmaps is forbidden: User \"test\" cannot list it");
    }
    if query.get("watch").is_none_or(|watch| watch != "true" && watch != "1") {
        let items: Vec<Value> = world.object().filter(|_| ours).into_iter().collect();
        return axum::Json(json!({
            "apiVersion": "v1", "kind": "ConfigMapList", "items": items,
            "metadata": {"resourceVersion": world.version.to_string()},
        }))
        .into_response();
    }
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    if from < world.oldest {
        // As the real one does: the watch begins well, and its first event is the error.
        let gone = json!({"type": "ERROR", "object": {
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
            "message": format!("too old resource version: {from} ({})", world.oldest),
        }});
        return stream(futures::stream::iter([Ok(line(&gone))]));
    }
    drop(world);
    stream(events(shared, from, ours, cut))
}

/// What happened after a version, and what happens from now on, until the watch is cut.
fn events(
    shared: Shared,
    from: u64,
    ours: bool,
    cut: watch::Receiver<u64>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let happened = shared.happened.subscribe();
    futures::stream::unfold(
        (shared, from, happened, cut),
        move |(shared, mut from, mut happened, mut cut)| async move {
            loop {
                if cut.has_changed().unwrap_or(true) {
                    return None;
                }
                happened.mark_unchanged();
                let lines: Vec<u8> = {
                    let world = shared.world.lock().unwrap_or_else(PoisonError::into_inner);
                    let new = world.events.iter().filter(|(version, _)| *version > from && ours);
                    let lines = new.flat_map(|(_, event)| line(event)).collect();
                    from = world.version;
                    lines
                };
                if !lines.is_empty() {
                    return Some((Ok(Bytes::from(lines)), (shared, from, happened, cut)));
                }
                tokio::select! {
                    _ = happened.changed() => {}
                    _ = cut.changed() => return None,
                }
            }
        },
    )
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

fn stream(lines: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": message,
    });
    (code, axum::Json(body)).into_response()
}
