//! A registry of images that asks who comes: Debian's `docker-registry`, on a port from the system, gone with this.

use super::{ANSWER_LIMIT, Engine, address};
use crate::wait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Who may come in.
const USER: &str = "puller";
/// The password of the only one who may come in.
pub const PASSWORD: &str = "pull-me-5f2e9a81c4";
/// What `htpasswd` makes of both.
const HTPASSWD: &str = "puller:$2b$04$r4iprVXXF8BB54/bMnfHGe16R0jrz/gxt/JKGmqBIZFYTUCgmNp0S\n";
const LIMIT: Duration = Duration::from_secs(20);

/// A running registry.
#[derive(Debug)]
pub struct ImageRegistry {
    folder: TempDir,
    process: Child,
    /// As the names of its images begin: `127.0.0.1:PORT`.
    pub host: String,
}

impl ImageRegistry {
    /// Starts an empty one.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("htpasswd"), HTPASSWD).expect("written");
        let config = json!({
            "version": "0.1",
            "log": { "level": "info", "formatter": "text" },
            "storage": { "filesystem": { "rootdirectory": path("data") } },
            "http": { "addr": format!("{}:0", Ipv4Addr::LOCALHOST) },
            "auth": { "htpasswd": { "realm": "pgdb-test", "path": path("htpasswd") } },
        });
        fs::write(path("config.yml"), config.to_string()).expect("written");
        let log = fs::File::create(path("log")).expect("a log");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).stdin(Stdio::null());
        let process =
            command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("docker-registry runs");
        let look = || async {
            let said = fs::read_to_string(path("log")).unwrap_or_default();
            let (_, rest) = said.split_once("listening on ")?;
            Some(rest.split(['"', '\n']).next()?.to_owned()).filter(|_| rest.contains('\n'))
        };
        let host = wait::until(LIMIT, "the registry to listen", look).await;
        Self { folder, process, host }
    }

    /// Brings an image of the engine here, and takes its new name from the engine again.
    pub async fn push(&self, engine: &Engine, image: &str) {
        let (repository, tag) = image.split_once(':').expect("a tag");
        let name = format!("{}/{repository}", self.host);
        engine.ask(reqwest::Method::POST, &format!("/images/{image}/tag?repo={name}&tag={tag}"), json!(null)).await;
        let who = json!({ "username": USER, "password": PASSWORD, "serveraddress": self.host }).to_string();
        let request = engine.client.post(address(&format!("/images/{name}/push?tag={tag}")));
        let request = request.header("X-Registry-Auth", URL_SAFE.encode(who)).timeout(ANSWER_LIMIT);
        let answer = request.send().await.expect("the engine answers");
        let (status, said) = (answer.status(), answer.text().await.unwrap_or_default());
        assert!(status.is_success() && !said.contains("errorDetail"), "{name} was not pushed: {said}");
        engine.ask(reqwest::Method::DELETE, &format!("/images/{name}:{tag}"), json!(null)).await;
    }

    /// What `docker login` writes into its `config.json` for this registry.
    pub fn client_config(&self, password: &str) -> String {
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        json!({ "auths": { self.host.as_str(): { "auth": auth } } }).to_string()
    }
}

impl Drop for ImageRegistry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the registry's log ---\n{}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
