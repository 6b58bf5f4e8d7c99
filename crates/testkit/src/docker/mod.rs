//! Real container engines, started for the tests alone: Docker's and podman's, with images of PostgreSQL loaded.
//!
//! An engine belongs to one test at a time, which may also kill it. Starting one and loading its images takes seconds, so
//! that the next test goes on with it, emptied; when the test run has ended, however that was, a process which waits for
//! that ends it and removes all that it has made. The engine knows nothing of others on the machine, nor they of it: data,
//! sockets, bridge, subnet and control groups are its own, and it leaves the firewall alone (podman adds rules for what
//! it publishes, and takes them back).

pub mod gate;
pub mod registry;
mod slot;

use crate::wait;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use slot::Slot;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an engine may take to answer after its start.
const LIMIT: Duration = Duration::from_secs(30);
/// How long one answer may take: loading an image, or ending a container.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Networks that an engine has from the start.
const OWN_NETWORKS: [&str; 4] = ["bridge", "host", "none", "podman"];

/// Whose engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `dockerd`.
    Docker,
    /// `podman system service`.
    Podman,
}

/// A running engine, this test's alone. Dropping it removes what is in it, so make it before the daemon that uses it.
#[derive(Debug)]
pub struct Engine {
    slot: Slot,
    client: Client,
}

impl Engine {
    /// An engine that runs, with the images and nothing else in it.
    pub async fn take(kind: Kind) -> Self {
        let slot = Slot::take(kind);
        let client = client(&slot.socket());
        let engine = Self { slot, client };
        if engine.slot.is_watched() && engine.answers().await {
            clear(&engine.client).await;
            engine.slot.run("forget");
        } else {
            engine.slot.run("end");
            engine.slot.watch();
            engine.start().await;
        }
        engine.load_images().await;
        engine
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.slot.socket()
    }

    /// Starts the engine after [`Self::kill9`] or [`Self::stop`], and waits until it answers.
    pub async fn start(&self) {
        self.slot.run("start");
        let look = || async { self.answers().await.then_some(()) };
        if tokio::time::timeout(LIMIT, wait::until(2 * LIMIT, "the engine", look)).await.is_err() {
            panic!("the engine did not answer, and said: {}", self.log());
        }
    }

    /// SIGKILL to the engine's own process; its containers may go on. Waits until it is gone.
    pub fn kill9(&self) {
        self.slot.run("kill");
    }

    /// SIGTERM to the engine's own process, which Docker's passes on to its containers. Waits until it is gone.
    pub fn stop(&self) {
        self.slot.run("stop");
    }

    /// Whether the engine answers.
    pub async fn answers(&self) -> bool {
        self.client.get("http://engine/_ping").send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// A request to its API, whose path begins after the version. The answer has to be good; null if it is not JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        ask(&self.client, method, path, body).await
    }

    /// What is answered to a question about something that may be gone; empty if it is, or if the engine is away.
    pub(crate) async fn try_ask(&self, path: &str) -> String {
        let Ok(answer) = self.client.get(address(path)).send().await else { return String::new() };
        String::from_utf8_lossy(&answer.bytes().await.unwrap_or_default()).into_owned()
    }

    /// All containers, the stopped ones too, as the engine lists them.
    pub async fn containers(&self) -> Vec<Value> {
        list(ask(&self.client, Method::GET, "/containers/json?all=true", Value::Null).await)
    }

    /// All volumes, as the engine lists them.
    pub async fn volumes(&self) -> Vec<Value> {
        list(ask(&self.client, Method::GET, "/volumes", Value::Null).await["Volumes"].take())
    }

    /// Loads those images that are not there. They are `postgres:MAJOR`, a file for each in `PGDB_IMAGES_DIR`.
    pub async fn load_images(&self) {
        let images = list(ask(&self.client, Method::GET, "/images/json", Value::Null).await);
        let tags: Vec<String> = images.iter().flat_map(|image| list(image["RepoTags"].clone())).map(text).collect();
        for (major, file) in image_files() {
            if tags.iter().any(|tag| tag.rsplit('/').next() == Some(&format!("postgres:{major}"))) {
                continue;
            }
            let file = tokio::fs::File::open(file).await.expect("open an image");
            let request = self.client.post(address("/images/load")).header("content-type", "application/x-tar");
            let answer = request.body(file).send().await.expect("the engine takes an image");
            let (status, said) = (answer.status(), answer.text().await.unwrap_or_default());
            assert!(status.is_success() && !said.contains("errorDetail"), "postgres:{major} was not loaded: {said}");
        }
    }

    /// What the engine has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.slot.folder.join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the engine's log ---\n{}", self.log());
        }
        // What goes wrong here is put right by the next that takes the engine, or by its end.
        let socket = self.slot.socket();
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(clear(&client(&socket)));
        });
        if cleaning.join().is_ok() {
            let _ = self.slot.attempt("forget");
        }
    }
}

/// The images that the tests have, by major, oldest first.
pub fn image_files() -> Vec<(u32, PathBuf)> {
    let folder = std::env::var_os("PGDB_IMAGES_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.parts/images"), PathBuf::from);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let major = |path: &Path| path.file_name()?.to_str()?.strip_prefix("postgres-")?.strip_suffix(".tar")?.parse().ok();
    let mut files: Vec<(u32, PathBuf)> = entries.filter_map(|path| Some((major(&path)?, path))).collect();
    files.sort();
    assert!(!files.is_empty(), "no images in {}: run scripts/install-test-deps.sh images", folder.display());
    files
}

fn client(socket: &Path) -> Client {
    // Whoever asks first installs it; all of a process use the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = Client::builder().unix_socket(socket.to_owned()).timeout(ANSWER_LIMIT);
    // The engine may be another at the next request.
    builder.pool_max_idle_per_host(0).build().expect("build an HTTP client")
}

/// The oldest version of the API that we speak, which every engine has.
fn address(path: &str) -> String {
    format!("http://engine/v1.40{path}")
}

async fn ask(client: &Client, method: Method, path: &str, body: Value) -> Value {
    let mut request = client.request(method.clone(), address(path));
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {path} was not answered: {error:?}"));
    let (status, said) = (answer.status(), answer.text().await.unwrap_or_default());
    assert!(status.is_success(), "the engine answered {method} {path} with {status}: {said}");
    serde_json::from_str(&said).unwrap_or_default()
}

/// Removes all containers, volumes and networks.
async fn clear(client: &Client) {
    // One that is on its way down, or comes up again, may have to be told twice.
    for container in list(ask(client, Method::GET, "/containers/json?all=true", Value::Null).await) {
        let path = format!("/containers/{}?force=true&v=true", text(container["Id"].clone()));
        ask(client, Method::DELETE, &path, Value::Null).await;
    }
    for volume in list(ask(client, Method::GET, "/volumes", Value::Null).await["Volumes"].take()) {
        ask(client, Method::DELETE, &format!("/volumes/{}", text(volume["Name"].clone())), Value::Null).await;
    }
    for network in list(ask(client, Method::GET, "/networks", Value::Null).await) {
        let name = text(network["Name"].clone());
        if !OWN_NETWORKS.contains(&name.as_str()) {
            ask(client, Method::DELETE, &format!("/networks/{name}"), json!(null)).await;
        }
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
