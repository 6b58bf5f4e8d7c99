//! One server's container: found, made, started, waited for, stopped.

use crate::conf::PROBE_ROLE;
use crate::docker::engine::{Engine, Patience, if_there, status, unless_done};
use crate::docker::files::{self, DIR, FRESH, TAKEOVER};
use crate::docker::image::Image;
use crate::docker::plan::{self, LABEL_DAEMON, LABEL_ID, LABEL_PLAN, MIB};
use crate::docker::{DockerConfig, exec, logs, volumes};
use crate::error::RuntimeError;
use crate::net;
use crate::reasons::{LAST_LINES, reason};
use crate::spec::{ADMIN_ROLE, Adoptable, ServerSpec, Tool};
use bollard::body_full;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How often a starting server is asked whether it accepts connections. Whoever waits for it notices within this.
const ASK: Duration = Duration::from_millis(10);
/// How often its container is looked at meanwhile: it may have ended.
const LOOK: Duration = Duration::from_millis(200);

/// A container as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// The engine's id.
    pub(crate) id: String,
    /// Whether its first process runs.
    pub(crate) running: bool,
    /// Whether the engine is about to start it again.
    pub(crate) restarting: bool,
    /// Whether it has ever been started.
    pub(crate) started: bool,
    /// How often the engine has started it again.
    restarts: i64,
    exit_code: i64,
    /// The digest of what it was made of; none if we did not make it.
    plan: Option<String>,
}

impl Container {
    /// Whether it has ended by itself and was started again.
    pub(crate) fn has_restarted(&self) -> bool {
        self.restarts > 0
    }
}

/// What the first start in a container has to do with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Make it.
    Make,
    /// Let our administrator into it.
    TakeOver,
    /// Nothing: it is ours, and whole.
    Nothing,
}

/// The server's container, whatever its state.
///
/// [`RuntimeError::InTheWay`] when there is one of its name that is neither ours nor was taken over.
pub(crate) async fn find(
    engine: &Engine,
    spec: &ServerSpec,
    config: &DockerConfig,
) -> Result<Option<Container>, RuntimeError> {
    let name = plan::container_name(spec, config);
    inspect(engine, &name).await?.map(|seen| read(seen, spec, &name)).transpose()
}

async fn inspect(engine: &Engine, name: &str) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
    let api = engine.api().await?;
    let patience = Patience::begin();
    let seen = loop {
        let seen = api.inspect_container(name, None::<InspectContainerOptions>).await;
        if !patience.is_wanted(&seen).await {
            break seen;
        }
    };
    if_there(seen).map_err(engine.failed(format!("look at the container {name}")))
}

fn read(seen: ContainerInspectResponse, spec: &ServerSpec, name: &str) -> Result<Container, RuntimeError> {
    let id = seen.id.unwrap_or_default();
    let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    // Of the original daemon: it knew no labels, and the record knows the container.
    let adopted = !labels.contains_key(LABEL_DAEMON) && spec.container.as_ref() == Some(&id);
    if labels.get(LABEL_ID) != Some(&spec.id) && !adopted {
        let detail = format!(
            "it was made by somebody else; rename or remove it (`docker rm {name}`), or choose another name; two daemons on \
             one engine each need a PGDB_DOCKER_PREFIX of their own"
        );
        return Err(RuntimeError::InTheWay { what: format!("the container {name}"), detail });
    }
    let state = seen.state.unwrap_or_default();
    let restarting = state.restarting.unwrap_or(false);
    Ok(Container {
        id,
        running: state.running.unwrap_or(false) && !restarting,
        restarting,
        // Engines give the year 1 to what has not happened.
        started: state.started_at.is_some_and(|at| !at.is_empty() && !at.starts_with("0001-")),
        restarts: seen.restart_count.unwrap_or(0),
        exit_code: state.exit_code.unwrap_or(0),
        plan: labels.get(LABEL_PLAN).cloned(),
    })
}

/// What a container of this id is, if it is the one of this name.
pub(crate) async fn adoptable(engine: &Engine, id: &str, name: &str) -> Result<Option<Adoptable>, RuntimeError> {
    let seen = inspect(engine, name).await?;
    // Registries have it in full or cut short.
    let Some(seen) = seen.filter(|seen| id.len() >= 12 && seen.id.as_ref().is_some_and(|found| found.starts_with(id)))
    else {
        return Ok(None);
    };
    let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    let host = seen.host_config.unwrap_or_default();
    let memory_mb = host.memory.and_then(|bytes| u64::try_from(bytes / MIB).ok()).filter(|mb| *mb > 0);
    let bindings = host.port_bindings.unwrap_or_default();
    let address = bindings.into_values().flatten().flatten().find_map(|binding| binding.host_ip);
    let everywhere = |address: String| if address.is_empty() { "0.0.0.0".to_owned() } else { address };
    let volumes = seen.mounts.into_iter().flatten().filter_map(|mount| mount.name).collect();
    Ok(Some(Adoptable {
        container: seen.id.unwrap_or_default(),
        id: labels.get(LABEL_ID).cloned(),
        system_identifier: labels.get(plan::LABEL_DATA).and_then(|hex| u64::from_str_radix(hex, 16).ok()),
        listen: address.map(everywhere).and_then(|address| address.parse().ok()),
        volumes,
        tls: labels.contains_key(plan::LABEL_TLS),
        memory_mb,
        max_connections: labels.get(plan::LABEL_CONNECTIONS).and_then(|text| text.parse().ok()),
    }))
}

/// Makes the container for data that we have never started, unless there is one that was.
pub(crate) async fn create(
    engine: &Engine,
    spec: &ServerSpec,
    image: &Image,
    config: &DockerConfig,
    first: First,
) -> Result<(), RuntimeError> {
    match find(engine, spec, config).await? {
        Some(found) if found.started => return Ok(()),
        // Perhaps without all of its files: whoever made it may have been killed.
        Some(found) => remove(engine, &found.id).await?,
        None => {}
    }
    make(engine, spec, image, config, first).await
}

/// Brings the container in line with its spec: its files always, and itself, if it is of another plan, by a new one on
/// the same volume. One that was taken over stays as it is.
pub(crate) async fn configure(
    engine: &Engine,
    spec: &ServerSpec,
    image: &Image,
    config: &DockerConfig,
) -> Result<(), RuntimeError> {
    let Some(container) = find(engine, spec, config).await? else {
        return make(engine, spec, image, config, First::Nothing).await;
    };
    let Some(made_of) = &container.plan else { return Ok(()) };
    if *made_of == plan::plan(spec, image, config).digest() {
        if !container.started && engine.was_filled(&container.id) {
            return Ok(());
        }
        upload(engine, &container.id, files::all(spec, image, First::Nothing)?).await?;
        if container.running {
            let owned = exec::short(engine, &container.id, "root", &["chown", "-R", "postgres", DIR]).await;
            // One that has just ended does it by itself when it starts.
            if let Err(error @ RuntimeError::ContainersUnavailable { .. }) = owned {
                return Err(error);
            }
        }
        return Ok(());
    }
    if container.running || container.restarting {
        let message = format!("'{}' runs with other settings; stop it first", spec.name);
        return Err(RuntimeError::Unsupported(message));
    }
    let first = first(engine, &container.id).await?;
    remove(engine, &container.id).await?;
    make(engine, spec, image, config, first).await
}

/// Makes the container with its files. One without all of its files is never left: it would be taken for whole.
async fn make(
    engine: &Engine,
    spec: &ServerSpec,
    image: &Image,
    config: &DockerConfig,
    first: First,
) -> Result<(), RuntimeError> {
    if !image.as_root {
        let message = format!(
            "the image {} does not run as root at its start, as the official one does to become postgres; use another",
            image.name
        );
        return Err(RuntimeError::Unsupported(message));
    }
    // An engine makes a new volume in the place of one that is gone, and takes whatever has its name.
    if volumes::find_own(engine, spec).await?.is_none() {
        let reason = format!("its volume {} is gone", spec.volume);
        return Err(RuntimeError::ServerFailed { reason, log: Vec::new() });
    }
    let plan = plan::plan(spec, image, config);
    let options = CreateContainerOptionsBuilder::default().name(&plan.name).build();
    let body = plan.body(spec, config);
    let created = engine.api().await?.create_container(Some(options), body).await;
    let id = created.map_err(engine.failed(format!("create the container {}", plan.name)))?.id;
    let filled = async { upload(engine, &id, files::all(spec, image, first)?).await };
    match filled.await {
        Err(error) => {
            remove(engine, &id).await.ok();
            Err(error)
        }
        Ok(()) => {
            engine.note_filled(id);
            Ok(())
        }
    }
}

async fn upload(engine: &Engine, id: &str, archive: Vec<u8>) -> Result<(), RuntimeError> {
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let sent = engine.api().await?.upload_to_container(id, Some(options), body_full(archive.into())).await;
    sent.map_err(engine.failed(format!("put files into the container {id}")))
}

/// Sets the administrator's password from inside of the container, where the system's user is enough.
pub(crate) async fn admit_admin(engine: &Arc<Engine>, spec: &ServerSpec, id: &str) -> Result<(), RuntimeError> {
    upload(engine, id, files::admission(spec)?).await?;
    exec::short(engine, id, "root", &["chown", "-R", "postgres", DIR]).await?;
    let args = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", files::ADMISSION].map(str::to_owned);
    let psql = Tool { program: "psql", args: &args, user: ADMIN_ROLE, password: None, db: "postgres", stdin: None };
    let done = exec::tool(Arc::clone(engine), id, psql).await?.finished.await;
    exec::short(engine, id, "root", &["rm", "-f", files::ADMISSION]).await?;
    done
}

/// What a container still has before it: it takes the file away when that is done.
async fn first(engine: &Engine, id: &str) -> Result<First, RuntimeError> {
    for (path, first) in [(FRESH, First::Make), (TAKEOVER, First::TakeOver)] {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let seen = if_there(engine.api().await?.get_container_archive_info(id, Some(options)).await);
        if seen.map_err(engine.failed(format!("look into the container {id}")))?.is_some() {
            return Ok(first);
        }
    }
    Ok(First::Nothing)
}

/// Starts the container unless it runs, and returns once its server accepts connections.
pub(crate) async fn start(
    engine: &Engine,
    spec: &ServerSpec,
    config: &DockerConfig,
    (host, port): (&str, u16),
) -> Result<(), RuntimeError> {
    let deadline = Instant::now() + config.start_timeout;
    let missing = || RuntimeError::Unsupported(format!("there is no container of '{}'", spec.name));
    let container = find(engine, spec, config).await?.ok_or_else(missing)?;
    if !container.running {
        match engine.api().await?.start_container(&container.id, None::<StartContainerOptions>).await {
            // It runs already.
            Err(error) if status(&error) == Some(304) => {}
            started => started.map_err(|error| refused(engine, spec, error))?,
        }
        engine.forget_filled(&container.id);
    }
    let mut look_at = Instant::now() + LOOK;
    loop {
        if net::accepts(host, port, PROBE_ROLE).await {
            return Ok(());
        }
        if Instant::now() >= look_at {
            look_at = Instant::now() + LOOK;
            let seen = find(engine, spec, config).await?.ok_or_else(missing)?;
            if !seen.running || seen.restarts > container.restarts {
                return Err(ended(engine, &seen).await);
            }
        }
        if Instant::now() >= deadline {
            let log = logs::last_lines(engine, &container.id).await.unwrap_or_default();
            let waited = config.start_timeout.as_secs();
            let reason = format!("its container runs, but it did not accept connections within {waited} s");
            return Err(RuntimeError::NotReady { reason, log });
        }
        sleep(ASK).await;
    }
}

/// A start that the engine refused: above all because something else has the port.
fn refused(engine: &Engine, spec: &ServerSpec, error: Error) -> RuntimeError {
    let failed = engine.failed(format!("start the container of '{}'", spec.name))(error);
    match &failed {
        RuntimeError::Containers { message, .. } if says_port_taken(message) => {
            RuntimeError::PortTaken { port: spec.port }
        }
        _ => failed,
    }
}

/// Docker's words, the kernel's in Docker's and podman's proxies, and netavark's.
fn says_port_taken(message: &str) -> bool {
    let message = message.to_lowercase();
    ["port is already allocated", "address already in use"].iter().any(|words| message.contains(words))
}

async fn ended(engine: &Engine, container: &Container) -> RuntimeError {
    let mut log = logs::last_lines(engine, &container.id).await.unwrap_or_default();
    log.drain(..log.len().saturating_sub(LAST_LINES));
    let reason = format!("its container ended with exit code {}: {}", container.exit_code, reason(&log));
    RuntimeError::ServerFailed { reason, log }
}

/// Stops the container cleanly, and by force after the grace period.
pub(crate) async fn stop(engine: &Engine, id: &str, grace: Duration) -> Result<(), RuntimeError> {
    let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::default().t(seconds).build();
    let stopped = engine.api().await?.stop_container(id, Some(options)).await;
    unless_done(stopped).map_err(engine.failed(format!("stop the container {id}")))
}

/// Removes a stopped container unless it is gone; its volume stays.
pub(crate) async fn remove(engine: &Engine, id: &str) -> Result<(), RuntimeError> {
    const LIMIT: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + LIMIT;
    engine.forget_filled(id);
    loop {
        let options = RemoveContainerOptionsBuilder::default().force(false).v(false).build();
        match unless_done(engine.api().await?.remove_container(id, Some(options)).await) {
            // Somebody else is removing it, and it is not gone until that has ended.
            Err(error) if in_progress(&error) && Instant::now() < deadline => {
                sleep_until(Instant::now() + ASK * 5).await;
            }
            outcome => return outcome.map_err(engine.failed(format!("remove the container {id}"))),
        }
    }
}

fn in_progress(error: &Error) -> bool {
    status(error) == Some(409) && error.to_string().contains("already in progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_have_several_words_for_a_taken_port() {
        for words in [
            "driver failed programming external connectivity on endpoint pgdb-x: Bind for 127.0.0.1:5 failed: port is \
             already allocated",
            "Error starting userland proxy: listen tcp4 127.0.0.1:5: bind: address already in use",
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:5: bind: address already in use",
            "netavark: Address already in use (os error 98)",
        ] {
            assert!(says_port_taken(words), "{words}");
        }
        assert!(!says_port_taken("no such image"));
    }
}
