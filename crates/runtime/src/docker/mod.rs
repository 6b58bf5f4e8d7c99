//! PostgreSQL in containers of any engine that speaks the Docker API: one container and one volume for each server.
//!
//! Everything about a server is read from the engine, so that a new daemon finds what an older one made. The image's own
//! entrypoint makes the data at the first start; files of ours come into the container through the archive calls of
//! the API. Containers restart by the engine's policy, and their data is only in their volumes.

mod container;
mod engine;
mod events;
mod exec;
mod files;
mod image;
mod logs;
mod plan;
mod registry;
mod volumes;

pub use engine::Endpoint;
pub use image::{ImageName, PullPolicy};

use crate::conf::PROBE_ROLE;
use crate::error::RuntimeError;
use crate::net::{self, reachable};
use crate::spec::{AdminTarget, Adoptable, Engine as Installed, LogOptions, Observed, ServerSpec, Tool};
use crate::{ByteStream, RunningTool, Runtime};
use async_trait::async_trait;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use container::{Container, First};
use engine::Engine;
use events::{Events, Heard};
use futures::future::join_all;
use image::Image;
use pgdb_core::instance::{NEWEST_MAJOR, OLDEST_MAJOR, RuntimeKind};
use plan::{LABEL_DAEMON, LABEL_ID};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::broadcast::error::RecvError;

/// How often a container that keeps ending is told to stop before it is left alone.
const STOPS: usize = 20;
/// The major that is deployed when nothing is said, as the original daemon has it.
const DEFAULT_MAJOR: u16 = 16;

/// What the runtime is set up with.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// Where the engine is.
    pub endpoint: Endpoint,
    /// Names this daemon among others that use the same engine; never changes.
    pub daemon: String,
    /// What stands before a server's name in the names of its container and its volume.
    pub prefix: String,
    /// Which image a major runs on.
    pub image: ImageName,
    /// When images are pulled.
    pub pull: PullPolicy,
    /// The folder of Docker's own client, whose `config.json` has credentials of registries.
    pub client_config: Option<PathBuf>,
    /// The network that containers join; the engine's default if not given.
    pub network: Option<String>,
    /// Processors that each container may use, such as 1.5; all if not given.
    pub cpus: Option<f64>,
    /// Size of each container's `/dev/shm` in MiB, which parallel queries use.
    pub shm_mb: u64,
    /// The driver of volumes; the engine's default if not given.
    pub volume_driver: Option<String>,
    /// What the driver calls the option that holds a volume to a size; that of Docker's own driver if not given.
    pub volume_size_option: Option<String>,
    /// The host by which this daemon reaches published ports; found out if not given.
    pub connect_host: Option<String>,
    /// How long a start waits until the server accepts connections.
    pub start_timeout: Duration,
    /// How long a clean stop may take before it becomes a forced one.
    pub stop_timeout: Duration,
}

/// Runs servers in containers.
#[derive(Debug)]
pub struct DockerRuntime {
    config: DockerConfig,
    engine: Arc<Engine>,
    events: Events,
    /// One call at a time changes a server.
    servers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl DockerRuntime {
    /// A runtime that has not spoken to its engine yet: the engine may be away when a daemon starts.
    pub fn new(config: DockerConfig) -> Self {
        let engine = Arc::new(Engine::new(config.endpoint.clone()));
        let events = Events::new(Arc::clone(&engine));
        Self { config, engine, events, servers: Mutex::default() }
    }

    /// Takes the lock of one server. Locks that nobody holds are dropped on the way.
    async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(id.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }

    async fn image(&self, major: u16) -> Result<Image, RuntimeError> {
        // What is there is taken as it is: only `prepare` pulls, and the policy may be to pull always.
        let name = self.config.image.of(major);
        match image::find(&self.engine, &name).await? {
            Some(image) => Ok(image),
            None => image::ensure(&self.engine, &name, &self.config).await,
        }
    }

    async fn find(&self, spec: &ServerSpec) -> Result<Option<Container>, RuntimeError> {
        container::find(&self.engine, spec, &self.config).await
    }

    /// The same where one that is somebody else's does not matter: what is not ours is neither stopped nor removed.
    async fn find_own(&self, spec: &ServerSpec) -> Result<Option<Container>, RuntimeError> {
        match self.find(spec).await {
            Err(RuntimeError::InTheWay { .. }) => Ok(None),
            outcome => outcome,
        }
    }

    /// The container where there has to be one.
    async fn present(&self, spec: &ServerSpec) -> Result<Container, RuntimeError> {
        let missing = || RuntimeError::Unsupported(format!("there is no container of '{}'", spec.name));
        self.find(spec).await?.ok_or_else(missing)
    }

    /// Whether a server whose container runs accepts connections.
    async fn running(&self, spec: &ServerSpec, id: String) -> Observed {
        let (host, port) = self.address(spec);
        if net::accepts(&host, port, PROBE_ROLE).await {
            Observed::Running { pid: None, container: Some(id) }
        } else {
            Observed::Starting { pid: None }
        }
    }

    async fn without_container(&self, spec: &ServerSpec) -> Result<Observed, RuntimeError> {
        let there = volumes::find_own(&self.engine, spec).await?.is_some();
        Ok(if there { Observed::Stopped } else { Observed::Missing })
    }

    /// Removes a stopped container, if there is one. One that keeps ending is stopped again: podman starts it once more
    /// when it was told to stop it between two of its lives.
    async fn remove_container(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let mut why = RuntimeError::Unsupported(format!("the container of '{}' runs; stop it first", spec.name));
        for _ in 0..STOPS {
            let Some(found) = self.find_own(spec).await? else { return Ok(()) };
            if !found.running && !found.restarting {
                match container::remove(&self.engine, &found.id).await {
                    Err(error @ RuntimeError::Containers { .. }) => why = error,
                    done => return done,
                }
            } else if !found.has_restarted() {
                break;
            }
            container::stop(&self.engine, &found.id, self.config.stop_timeout).await?;
        }
        Err(why)
    }

    /// Every container of this daemon, in one call.
    async fn list(&self) -> Result<Vec<ContainerSummary>, RuntimeError> {
        self.engine.list("label", &format!("{LABEL_DAEMON}={}", self.config.daemon)).await
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    async fn engines(&self) -> Result<Vec<Installed>, RuntimeError> {
        let mut found = Vec::new();
        for major in (OLDEST_MAJOR..=NEWEST_MAJOR).rev() {
            let name = self.config.image.of(major);
            if let Some(image) = image::find(&self.engine, &name).await? {
                found.push(installed(major, &image));
            }
        }
        Ok(found)
    }

    async fn choose_major(&self, wanted: Option<u16>) -> Result<u16, RuntimeError> {
        let major = wanted.unwrap_or(DEFAULT_MAJOR);
        let name = self.config.image.of(major);
        if self.config.pull == PullPolicy::Never {
            // Better said now than by an operation that is taken back.
            image::ensure(&self.engine, &name, &self.config).await?;
        } else {
            image::find(&self.engine, &name).await?;
        }
        Ok(major)
    }

    fn volumes_keep_their_name(&self) -> bool {
        true
    }

    fn volume_name(&self, name: &str) -> String {
        format!("{}{name}", self.config.prefix)
    }

    async fn install(&self, major: u16, source: Option<&Path>) -> Result<Installed, RuntimeError> {
        if source.is_some() {
            let message = "images are pulled or built, not unpacked; load it into the engine (`docker load`)";
            return Err(RuntimeError::Unsupported(message.to_owned()));
        }
        let image = image::ensure(&self.engine, &self.config.image.of(major), &self.config).await?;
        Ok(installed(major, &image))
    }

    async fn prepare(&self, major: u16) -> Result<(), RuntimeError> {
        image::ensure(&self.engine, &self.config.image.of(major), &self.config).await.map(drop)
    }

    async fn create(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let image = self.image(spec.major).await?;
        let _alone = self.lock(&spec.id).await;
        // First, for a container of this name that is not ours ends it before anything is made.
        self.find(spec).await?;
        volumes::ensure(&self.engine, spec, &self.config).await?;
        container::create(&self.engine, spec, &image, &self.config, First::Make).await
    }

    async fn configure(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let image = self.image(spec.major).await?;
        let _alone = self.lock(&spec.id).await;
        container::configure(&self.engine, spec, &image, &self.config).await
    }

    async fn start(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let _alone = self.lock(&spec.id).await;
        let found = self.find(spec).await?;
        // Somebody has removed the container, and all that matters is in the volume; or whoever made it was killed before
        // all files were in it.
        if !found.as_ref().is_some_and(|found| found.started || self.engine.was_filled(&found.id)) {
            let image = self.image(spec.major).await?;
            container::configure(&self.engine, spec, &image, &self.config).await?;
        }
        let (host, port) = self.address(spec);
        container::start(&self.engine, spec, &self.config, (&host, port)).await
    }

    async fn stop(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let _alone = self.lock(&spec.id).await;
        match self.find_own(spec).await? {
            Some(found) => container::stop(&self.engine, &found.id, self.config.stop_timeout).await,
            None => Ok(()),
        }
    }

    async fn sync(&self, _: &ServerSpec) -> Result<(), RuntimeError> {
        // The last script of the first start has done it, before the server could be reached; since then the server itself
        // makes durable what it commits.
        Ok(())
    }

    async fn remove(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let _alone = self.lock(&spec.id).await;
        self.remove_container(spec).await?;
        match volumes::find_own(&self.engine, spec).await? {
            Some(volume) => volumes::remove(&self.engine, &volume.name).await,
            None => Ok(()),
        }
    }

    async fn keep(&self, spec: &ServerSpec, _: &BTreeSet<String>) -> Result<String, RuntimeError> {
        let _alone = self.lock(&spec.id).await;
        if volumes::find_own(&self.engine, spec).await?.is_none() {
            let what = format!("the volume {}", spec.volume);
            return Err(RuntimeError::InTheWay { what, detail: "it is gone, so there is no data to keep".to_owned() });
        }
        self.remove_container(spec).await?;
        Ok(spec.volume.clone())
    }

    async fn kept(&self, volume: &str) -> Result<Option<u16>, RuntimeError> {
        Ok(volumes::find(&self.engine, volume).await?.as_ref().and_then(volumes::major))
    }

    async fn restore_kept(&self, volume: &str, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let found = volumes::find_own(&self.engine, &ServerSpec { volume: volume.to_owned(), ..spec.clone() }).await?;
        let gone = || {
            let detail = "there is no data kept under this name".to_owned();
            RuntimeError::InTheWay { what: format!("the volume {volume}"), detail }
        };
        let found = found.ok_or_else(gone)?;
        if let Some(major) = volumes::major(&found).filter(|major| *major != spec.major) {
            let message =
                format!("the data kept under {volume} is of PostgreSQL {major}; deploy it with --version {major}");
            return Err(RuntimeError::Unsupported(message));
        }
        let image = self.image(spec.major).await?;
        let _alone = self.lock(&spec.id).await;
        // Two servers on the same data would ruin it, and in containers neither sees the other.
        volumes::refuse_used(&self.engine, volume, Some(&spec.id)).await?;
        container::create(&self.engine, spec, &image, &self.config, First::TakeOver).await
    }

    async fn kept_by_the_original(&self, volume: &str) -> Result<bool, RuntimeError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !volume.starts_with(&self.config.prefix) || !volume.bytes().all(plain) {
            return Ok(false);
        }
        let found = volumes::find(&self.engine, volume).await?;
        if found.is_none_or(|found| plan::is_labelled(&found.labels)) {
            return Ok(false);
        }
        volumes::refuse_used(&self.engine, volume, None).await.map(|()| true)
    }

    async fn adoptable(&self, container: &str, name: &str) -> Result<Option<Adoptable>, RuntimeError> {
        container::adoptable(&self.engine, container, &format!("{}{name}", self.config.prefix)).await
    }

    async fn observe(&self, spec: &ServerSpec) -> Result<Observed, RuntimeError> {
        match self.find_own(spec).await? {
            Some(found) if found.running => Ok(self.running(spec, found.id).await),
            Some(found) if found.restarting => Ok(Observed::Starting { pid: None }),
            Some(_) => Ok(Observed::Stopped),
            None => self.without_container(spec).await,
        }
    }

    async fn observe_all(&self, specs: &[ServerSpec]) -> Result<Vec<Observed>, RuntimeError> {
        use ContainerSummaryStateEnum::{PAUSED, RESTARTING, RUNNING};
        let listed = self.list().await?;
        let by_id: HashMap<&str, &ContainerSummary> = listed
            .iter()
            .filter_map(|container| Some((container.labels.as_ref()?.get(LABEL_ID)?.as_str(), container)))
            .collect();
        let looks = specs.iter().map(|spec| async {
            match by_id.get(spec.id.as_str()) {
                Some(found) => Ok(match found.state {
                    Some(RUNNING) => self.running(spec, found.id.clone().unwrap_or_default()).await,
                    Some(RESTARTING | PAUSED) => Observed::Starting { pid: None },
                    _ => Observed::Stopped,
                }),
                // Taken over from the original daemon, which knew no labels, or removed by hand.
                None => self.observe(spec).await,
            }
        });
        join_all(looks).await.into_iter().collect()
    }

    async fn exited(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let mut heard = self.events.listen();
        let Some(found) = self.find(spec).await?.filter(|found| found.running) else { return Ok(()) };
        loop {
            match heard.recv().await {
                Ok(Heard::Ended(id)) if id != found.id => {}
                // Whatever it was, whoever waits looks for itself.
                Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn admit_admin(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let found = self.present(spec).await?;
        container::admit_admin(&self.engine, spec, &found.id).await
    }

    fn admin_target(&self, spec: &ServerSpec) -> AdminTarget {
        let (host, port) = self.address(spec);
        AdminTarget::Tcp { host, port }
    }

    fn address(&self, spec: &ServerSpec) -> (String, u16) {
        let engine = self.config.connect_host.as_deref().or_else(|| self.config.endpoint.published_host());
        (engine.map_or_else(|| reachable(spec.listen).to_string(), str::to_owned), spec.port)
    }

    async fn logs(&self, spec: &ServerSpec, options: LogOptions) -> Result<ByteStream, RuntimeError> {
        let found = self.find(spec).await?;
        logs::stream(&self.engine, found.as_ref().map(|found| found.id.as_str()), options).await
    }

    async fn disk_usage(&self, spec: &ServerSpec) -> Result<u64, RuntimeError> {
        let found = self.present(spec).await?;
        let script = "du -sk \"$PGDATA\"";
        let said = exec::short(&self.engine, &found.id, "postgres", &["sh", "-c", script]).await?;
        let kilobytes = said.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        let unclear = || RuntimeError::Containers { action: "measure a volume".to_owned(), message: said.clone() };
        Ok(kilobytes.ok_or_else(unclear)? * 1024)
    }

    async fn last_log_lines(&self, spec: &ServerSpec) -> Result<Vec<String>, RuntimeError> {
        match self.find(spec).await? {
            Some(found) => logs::last_lines(&self.engine, &found.id).await,
            None => Ok(Vec::new()),
        }
    }

    async fn tool(&self, spec: &ServerSpec, tool: Tool<'_>) -> Result<RunningTool, RuntimeError> {
        let found = self.present(spec).await?;
        exec::tool(Arc::clone(&self.engine), &found.id, tool).await
    }

    async fn inventory(&self) -> Result<Vec<String>, RuntimeError> {
        let listed = self.list().await?;
        let mut ids: Vec<String> =
            listed.into_iter().filter_map(|container| container.labels?.remove(LABEL_ID)).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    async fn discard(&self, id: &str) -> Result<(), RuntimeError> {
        let _alone = self.lock(id).await;
        for found in self.list().await? {
            let labels = found.labels.unwrap_or_default();
            let (Some(container), true) = (found.id, labels.get(LABEL_ID).is_some_and(|label| label == id)) else {
                continue;
            };
            container::stop(&self.engine, &container, self.config.stop_timeout).await?;
            container::remove(&self.engine, &container).await?;
            for name in found.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.name) {
                let volume = volumes::find(&self.engine, &name).await?;
                if volume.is_some_and(|volume| plan::is_labelled(&volume.labels)) {
                    volumes::remove(&self.engine, &name).await?;
                }
            }
        }
        Ok(())
    }

    async fn prune_logs(&self, _: &ServerSpec) -> Result<(), RuntimeError> {
        // The engine rotates them: the container says how many and how large.
        Ok(())
    }
}

fn installed(major: u16, image: &Image) -> Installed {
    Installed {
        major,
        version: image.version.clone().unwrap_or_else(|| major.to_string()),
        bin_dir: PathBuf::from(&image.name),
    }
}
