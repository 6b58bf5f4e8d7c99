//! The connection to the engine, made at the first call and made anew after it was lost, and what its errors mean.

use crate::error::RuntimeError;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the engine may take to answer, in seconds; a stop that waits for a checkpoint counts.
const TIMEOUT_S: u64 = 300;
/// A proxy's words for an engine that is away.
const GATEWAY: RangeInclusive<u16> = 502..=504;
/// How long a state of a container that is only passed through may last.
const PASSING: Duration = Duration::from_secs(10);
/// Where an engine listens when nobody says.
pub(crate) const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Where the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As `DOCKER_HOST` has it: `unix:///path`, `tcp://host:port`, `http://…` or `https://…`.
    pub host: String,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`: then TCP is TLS (`DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`).
    pub tls: Option<PathBuf>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { host: DEFAULT_HOST.to_owned(), tls: None }
    }
}

impl Endpoint {
    /// The host that containers' ports are published on, as seen from here.
    pub(crate) fn published_host(&self) -> Option<&str> {
        let (scheme, rest) = self.host.split_once("://")?;
        if scheme == "unix" {
            return None;
        }
        let authority = rest.split('/').next()?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        Some(host.trim_start_matches('[').trim_end_matches(']'))
    }
}

/// The engine. Cheap calls to [`Self::api`] share one client.
#[derive(Debug)]
pub(crate) struct Engine {
    endpoint: Endpoint,
    client: Mutex<Option<Docker>>,
    /// Containers that got all of their files from this process. One that was not started yet and is not among them may
    /// lack some: whoever made it may have been killed.
    filled: Mutex<HashSet<String>>,
}

impl Engine {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, client: Mutex::default(), filled: Mutex::default() }
    }

    /// A client that speaks a version of the API that the engine knows too.
    pub(crate) async fn api(&self) -> Result<Docker, RuntimeError> {
        if let Some(client) = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(client);
        }
        let client = self.negotiate().await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// The containers that filters let through, running or not.
    pub(crate) async fn list(&self, filter: &str, value: &str) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let filters = HashMap::from([(filter, vec![value])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let api = self.api().await?;
        let patience = Patience::begin();
        let listed = loop {
            let listed = api.list_containers(Some(options.clone())).await;
            if !patience.is_wanted(&listed).await {
                break listed;
            }
        };
        listed.map_err(self.failed("list containers"))
    }

    /// Notes that a container has all of its files.
    pub(crate) fn note_filled(&self, container: String) {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).insert(container);
    }

    /// Whether that was noted.
    pub(crate) fn was_filled(&self, container: &str) -> bool {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).contains(container)
    }

    /// Forgets it, once that does not matter any more.
    pub(crate) fn forget_filled(&self, container: &str) {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Whether the engine is podman.
    pub(crate) async fn is_podman(&self) -> Result<bool, RuntimeError> {
        let version = self.api().await?.version().await.map_err(self.failed("tell its version"))?;
        Ok(version.components.into_iter().flatten().any(|component| component.name.contains("Podman")))
    }

    /// Forgets the client: the engine may be another one when it is back.
    fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn negotiate(&self) -> Result<Docker, RuntimeError> {
        let unavailable = |error: Error| self.unavailable(&error);
        let newest = self.connect(API_DEFAULT_VERSION).map_err(unavailable)?;
        match newest.negotiate_version().await {
            Ok(client) => Ok(client),
            // Older engines refuse even to tell their version to a client that is newer than they are.
            Err(Error::DockerResponseServerError { message, .. }) if supported(&message).is_some() => {
                let version = supported(&message).unwrap_or(*API_DEFAULT_VERSION);
                self.connect(&version).map_err(unavailable)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    fn connect(&self, version: &ClientVersion) -> Result<Docker, Error> {
        let host = self.endpoint.host.as_str();
        if let Some(path) = host.strip_prefix("unix://") {
            return Docker::connect_with_unix(path, TIMEOUT_S, version);
        }
        let encrypted = host.starts_with("https://") || self.endpoint.tls.is_some();
        if !encrypted {
            return Docker::connect_with_http(host, TIMEOUT_S, version);
        }
        let folder = self.endpoint.tls.as_deref().unwrap_or(Path::new("."));
        let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| folder.join(name));
        Docker::connect_with_ssl(host, &key, &cert, &ca, TIMEOUT_S, version)
    }

    fn unavailable(&self, error: &Error) -> RuntimeError {
        let detail = match status(error) {
            // With a page of HTML.
            Some(status) if GATEWAY.contains(&status) => format!("what is before it answers {status}"),
            _ => innermost(error),
        };
        RuntimeError::ContainersUnavailable { host: self.endpoint.host.clone(), detail }
    }

    /// For `map_err`: what a failed call means. `action` is verb and object.
    pub(crate) fn failed(&self, action: impl Into<String>) -> impl FnOnce(Error) -> RuntimeError {
        let action = action.into();
        move |error| match error {
            Error::DockerResponseServerError { status_code, message } if !GATEWAY.contains(&status_code) => {
                RuntimeError::Containers { action, message: one_line(&message) }
            }
            Error::DockerStreamError { error: message } => {
                RuntimeError::Containers { action, message: one_line(&message) }
            }
            Error::JsonDataError { message, .. } => RuntimeError::Containers { action, message },
            error => {
                self.forget();
                self.unavailable(&error)
            }
        }
    }
}

/// For looks at containers: podman has a word of its own for one that has just ended and that it has not tidied up yet, which
/// no client of Docker's knows.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn begin() -> Self {
        Self(Instant::now() + PASSING)
    }

    /// Whether to look again, after a pause.
    pub(crate) async fn is_wanted<T>(&self, seen: &Result<T, Error>) -> bool {
        let passing = matches!(seen, Err(Error::JsonDataError { message, .. }) if message.contains("unknown variant"));
        let wanted = passing && Instant::now() < self.0;
        if wanted {
            sleep(PASSING / 200).await;
        }
        wanted
    }
}

/// The status that the engine answered with, when it did.
pub(crate) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Podman has another status for a container that is being removed at the moment.
fn is_missing(error: &Error) -> bool {
    status(error) == Some(404) || (status(error).is_some() && error.to_string().contains("no such container"))
}

/// What a missing thing is: nothing, and no error.
pub(crate) fn if_there<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A call that changes nothing when what it asks for is so already (304), or is about something that is gone (404).
pub(crate) fn unless_done(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if status(&error) == Some(304) || is_missing(&error) => Ok(()),
        outcome => outcome,
    }
}

/// Reads the newest version from "client version 1.53 is too new. Maximum supported API version is 1.41".
fn supported(message: &str) -> Option<ClientVersion> {
    let (_, rest) = message.split_once("Maximum supported API version is ")?;
    let (major, minor) = rest.trim().split_once('.')?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor[..digits].parse().ok()? })
}

/// The cause that says most: layers above it only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_read_from_a_refusal() {
        let refusal = "client version 1.53 is too new. Maximum supported API version is 1.41";
        let found = supported(refusal).map(|version| version.to_string());
        assert_eq!(found.as_deref(), Some("1.41"));
        assert!(supported("no such route").is_none());
    }

    #[test]
    fn ports_are_reached_where_the_engine_is() {
        let host = |host: &str| Endpoint { host: host.to_owned(), tls: None }.published_host().map(str::to_owned);
        assert_eq!(host("unix:///var/run/docker.sock"), None);
        assert_eq!(host("tcp://10.0.0.7:2376").as_deref(), Some("10.0.0.7"));
        assert_eq!(host("tcp://[::1]:2375").as_deref(), Some("::1"));
        assert_eq!(host("https://engine.example.org").as_deref(), Some("engine.example.org"));
    }
}
