//! PostgreSQL as supervised processes of this machine.
//!
//! Servers are started directly, in sessions of their own, and outlive the daemon: everything about them is read
//! from the disk and /proc, so that a new daemon finds them as they are. When the daemon is root, they run as
//! another user, and only folders below `prepared`, `instances`, `kept` and `run` are given to that user.

mod account;
mod copy;
mod engines;
mod files;
mod identity;
mod install;
mod layout;
mod logs;
pub mod machine;
mod prepared;
mod procs;
mod scratch;
mod server;
pub(crate) mod tool;
mod volumes;

use crate::conf;
use crate::conf::AdminAccess;
use crate::error::RuntimeError;
use crate::net::reachable;
use crate::spec::{AdminTarget, Adoptable, Engine, LogOptions, Observed, ServerSpec, Tool, ToolServer};
use crate::{ByteStream, ClientPrograms, RunningTool, Runtime};
use account::Account;
use async_trait::async_trait;
use engines::Engines;
use files::blocking;
use layout::{Layout, Place};
use pgdb_core::instance::{NEWEST_MAJOR, RuntimeKind};
use secrecy::ExposeSecret;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, RwLock};
use tool::Connection;

/// What the runtime is set up with.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The daemon's data directory.
    pub data_dir: PathBuf,
    /// A folder whose sub-folders hold engines (`PGDB_ENGINES_DIR`).
    pub engines_dir: Option<PathBuf>,
    /// The search path for engines (`PATH`).
    pub path: Option<OsString>,
    /// The operating system's user that servers run as when we are root; `postgres` if not given.
    pub run_as: Option<String>,
    /// How long a start waits until the server accepts connections.
    pub start_timeout: Duration,
    /// How long a clean stop may take before it becomes a forced one.
    pub stop_timeout: Duration,
}

/// Runs servers as processes.
#[derive(Debug)]
pub struct ProcessRuntime {
    config: ProcessConfig,
    layout: Layout,
    engines: Arc<Engines>,
    /// Looked up at first use, for installing the system's packages makes the account.
    account: OnceLock<Account>,
    reflink: OnceLock<bool>,
    /// One writer makes the prepared directory of a major while nobody copies from it.
    prepared: Mutex<HashMap<u16, Arc<RwLock<()>>>>,
    /// One call at a time changes a server.
    servers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl ProcessRuntime {
    /// Opens the data directory, making it when it is not there, and removes what was on its way out when an
    /// earlier daemon was killed.
    pub async fn new(config: ProcessConfig) -> Result<Self, RuntimeError> {
        let data_dir = config.data_dir.clone();
        let layout = blocking(move || open(&data_dir)).await?;
        let chosen = config.engines_dir.iter().cloned().chain([layout.engines.clone()]).collect();
        let engines = Arc::new(Engines::new(chosen, config.path.clone()));
        Ok(Self {
            config,
            layout,
            engines,
            account: OnceLock::new(),
            reflink: OnceLock::new(),
            prepared: Mutex::default(),
            servers: Mutex::default(),
        })
    }

    fn account(&self) -> Result<&Account, RuntimeError> {
        if let Some(account) = self.account.get() {
            return Ok(account);
        }
        let account = Account::resolve(self.config.run_as.as_deref().unwrap_or("postgres"))?;
        Ok(self.account.get_or_init(|| account))
    }

    async fn engine(&self, major: u16) -> Result<Engine, RuntimeError> {
        let engines = self.engines.clone();
        blocking(move || engines.get(major)).await
    }

    /// The oldest engine whose client programs can talk to a server of this major.
    async fn client_engine(&self, major: u16) -> Result<Engine, RuntimeError> {
        let engines = self.engines.clone();
        let found = blocking(move || Ok(engines.find())).await?;
        let fitting = found.iter().filter(|engine| engine.major >= major).min_by_key(|engine| engine.major);
        let missing =
            || RuntimeError::ClientsMissing { major, found: found.iter().map(|engine| engine.major).collect() };
        fitting.cloned().ok_or_else(missing)
    }

    /// Whether copies share blocks here; found out once, with a file that any data directory has.
    async fn reflink(&self, data: PathBuf) -> Result<bool, RuntimeError> {
        if let Some(known) = self.reflink.get() {
            return Ok(*known);
        }
        // Where it is removed at the next start if we are killed half-way.
        let dir = self.layout.trash.clone();
        let found = blocking(move || {
            let name = format!(".probe-{}", std::process::id());
            Ok(copy::can_reflink(&data.join("global/pg_control"), &dir, &name))
        })
        .await?;
        Ok(*self.reflink.get_or_init(|| found))
    }

    fn prepared_lock(&self, major: u16) -> Arc<RwLock<()>> {
        let mut locks = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(major).or_default().clone()
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

    /// Runs file work on one server, alone.
    async fn change<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(&Layout, &Place) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let (layout, place) = (self.layout.clone(), self.layout.place(id)?);
        let alone = self.lock(id).await;
        blocking(move || {
            // Held by the work: a caller that goes away does not end it.
            let _alone = alone;
            work(&layout, &place)
        })
        .await
    }

    /// Runs a look at one server.
    async fn look<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(&Place) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let place = self.layout.place(id)?;
        blocking(move || work(&place)).await
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    async fn engines(&self) -> Result<Vec<Engine>, RuntimeError> {
        let engines = self.engines.clone();
        blocking(move || Ok(engines.find())).await
    }

    async fn choose_major(&self, wanted: Option<u16>) -> Result<u16, RuntimeError> {
        let found: Vec<u16> = self.engines().await?.iter().map(|engine| engine.major).collect();
        let major = wanted.or_else(|| found.first().copied()).unwrap_or(NEWEST_MAJOR);
        if found.contains(&major) { Ok(major) } else { Err(RuntimeError::EngineMissing { major, found }) }
    }

    fn volumes_keep_their_name(&self) -> bool {
        false
    }

    async fn install(&self, major: u16, source: Option<&Path>) -> Result<Engine, RuntimeError> {
        let lock = self.prepared_lock(major);
        let _alone = lock.write().await;
        if source.is_none()
            && let Ok(engine) = self.engine(major).await
        {
            return Ok(engine);
        }
        install::install(&self.layout, &self.engines, major, source).await
    }

    async fn prepare(&self, major: u16) -> Result<(), RuntimeError> {
        let engine = self.engine(major).await?;
        let account = self.account()?;
        let lock = self.prepared_lock(major);
        {
            // Made long ago, as a rule: then nobody has to wait for those who copy.
            let _reading = lock.read().await;
            let (layout, engine, account) = (self.layout.clone(), engine.clone(), account.clone());
            if blocking(move || prepared::is_ready(&layout, &engine, &account)).await? {
                return Ok(());
            }
        }
        let _alone = lock.write().await;
        prepared::ensure(&self.layout, &engine, account).await
    }

    async fn create(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let major = spec.major;
        if self.change(&spec.id, move |_, place| volumes::is_created(place, major)).await? {
            return Ok(());
        }
        self.prepare(major).await?;
        let engine = self.engine(major).await?;
        let account = self.account()?.clone();
        let copying = self.prepared_lock(major).read_owned().await;
        let from = prepared::folder(&self.layout, &engine).join("data");
        let reflink = self.reflink(from.clone()).await?;
        let identifier = spec.system_identifier;
        self.change(&spec.id, move |_, place| {
            let _copying = copying;
            volumes::create(place, &from, major, identifier, &account, reflink)
        })
        .await
    }

    async fn configure(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let account = self.account()?.clone();
        let place = self.layout.place(&spec.id)?;
        let reflink = self.reflink(place.data).await?;
        let its = spec.clone();
        self.change(&spec.id, move |_, place| configure(place, &its, &account, reflink)).await
    }

    async fn start(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let place = self.layout.place(&spec.id)?;
        let engine = self.engine(spec.major).await?;
        let _alone = self.lock(&spec.id).await;
        server::start(&self.layout, &place, spec, &engine, self.account()?, self.config.start_timeout).await
    }

    async fn stop(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let place = self.layout.place(&spec.id)?;
        let _alone = self.lock(&spec.id).await;
        server::stop(&place, self.config.stop_timeout).await
    }

    async fn sync(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        self.look(&spec.id, volumes::sync).await
    }

    async fn remove(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        self.change(&spec.id, volumes::remove).await
    }

    async fn keep(&self, spec: &ServerSpec, reserved: &BTreeSet<String>) -> Result<String, RuntimeError> {
        let (volume, reserved) = (spec.volume.clone(), reserved.clone());
        self.change(&spec.id, move |layout, place| volumes::keep(layout, place, &volume, &reserved)).await
    }

    async fn kept(&self, volume: &str) -> Result<Option<u16>, RuntimeError> {
        let (layout, volume) = (self.layout.clone(), volume.to_owned());
        blocking(move || volumes::kept(&layout, &volume)).await
    }

    async fn restore_kept(&self, volume: &str, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let account = self.account()?.clone();
        let (volume, major) = (volume.to_owned(), spec.major);
        self.change(&spec.id, move |layout, place| volumes::restore(layout, place, &volume, major, &account)).await
    }

    async fn adoptable(&self, _: &str, _: &str) -> Result<Option<Adoptable>, RuntimeError> {
        Ok(None)
    }

    async fn observe(&self, spec: &ServerSpec) -> Result<Observed, RuntimeError> {
        self.look(&spec.id, server::observe).await
    }

    async fn observe_all(&self, specs: &[ServerSpec]) -> Result<Vec<Observed>, RuntimeError> {
        let places = specs.iter().map(|spec| self.layout.place(&spec.id)).collect::<Result<Vec<_>, _>>()?;
        blocking(move || places.iter().map(server::observe).collect()).await
    }

    async fn exited(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        server::exited(&self.layout.place(&spec.id)?).await
    }

    async fn kept_by_the_original(&self, _: &str) -> Result<bool, RuntimeError> {
        // It kept data in volumes of containers alone.
        Ok(false)
    }

    async fn admit_admin(&self, _: &ServerSpec) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn admin_target(&self, spec: &ServerSpec) -> AdminTarget {
        AdminTarget::Socket { dir: self.layout.socket_dir(&spec.id), port: spec.port }
    }

    fn address(&self, spec: &ServerSpec) -> (String, u16) {
        (reachable(spec.listen).to_string(), spec.port)
    }

    async fn logs(&self, spec: &ServerSpec, options: LogOptions) -> Result<ByteStream, RuntimeError> {
        logs::stream(&self.layout.place(&spec.id)?, options).await
    }

    async fn disk_usage(&self, spec: &ServerSpec) -> Result<u64, RuntimeError> {
        self.look(&spec.id, |place| volumes::disk_usage(&place.data)).await
    }

    async fn last_log_lines(&self, spec: &ServerSpec) -> Result<Vec<String>, RuntimeError> {
        self.look(&spec.id, logs::last_lines).await
    }

    async fn tool(&self, spec: &ServerSpec, tool: Tool<'_>) -> Result<RunningTool, RuntimeError> {
        self.client(ToolServer::Own(spec), tool).await
    }

    async fn inventory(&self) -> Result<Vec<String>, RuntimeError> {
        let layout = self.layout.clone();
        blocking(move || volumes::inventory(&layout)).await
    }

    async fn discard(&self, id: &str) -> Result<(), RuntimeError> {
        let place = self.layout.place(id)?;
        {
            let _alone = self.lock(id).await;
            server::stop(&place, self.config.stop_timeout).await?;
        }
        self.change(id, volumes::remove).await
    }

    async fn prune_logs(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        self.look(&spec.id, logs::prune).await
    }
}

#[async_trait]
impl ClientPrograms for ProcessRuntime {
    async fn clients(&self) -> Result<Vec<Engine>, RuntimeError> {
        self.engines().await
    }

    async fn client(&self, server: ToolServer<'_>, tool: Tool<'_>) -> Result<RunningTool, RuntimeError> {
        let (engine, connection) = match server {
            ToolServer::Own(spec) => {
                let host = self.layout.place(&spec.id)?.socket_dir;
                let connection = Connection { host, port: spec.port, sslmode: "disable".to_owned(), sslrootcert: None };
                (self.engine(spec.major).await?, connection)
            }
            ToolServer::Other(other) => {
                let connection = Connection {
                    host: PathBuf::from(&other.host),
                    port: other.port,
                    sslmode: other.sslmode.clone(),
                    sslrootcert: other.sslrootcert.clone(),
                };
                (self.client_engine(other.major).await?, connection)
            }
        };
        tool::run(&connection, &engine, self.account()?, tool).await
    }

    async fn scratch(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        let (layout, account, name) = (self.layout.clone(), self.account()?.clone(), name.to_owned());
        blocking(move || scratch::make(&layout, &account, &name)).await
    }

    async fn lend(&self, file: &Path, name: &str) -> Result<PathBuf, RuntimeError> {
        let (layout, account) = (self.layout.clone(), self.account()?.clone());
        let (file, name) = (file.to_owned(), name.to_owned());
        blocking(move || scratch::lend(&layout, &account, &file, &name)).await
    }

    async fn remove_scratch(&self, name: &str) -> Result<(), RuntimeError> {
        let (layout, name) = (self.layout.clone(), name.to_owned());
        blocking(move || scratch::remove(&layout, &name)).await
    }

    async fn scratches(&self) -> Result<Vec<String>, RuntimeError> {
        let layout = self.layout.clone();
        blocking(move || files::names(&layout.scratch)).await
    }
}

/// Makes the folders. Those that the servers' user must pass through are open for passing, not for listing.
fn open(data_dir: &Path) -> Result<Layout, RuntimeError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o711).create(data_dir).map_err(RuntimeError::io("create", data_dir))?;
    // Servers do not share our working directory, and processes are compared by absolute paths.
    let data_dir = fs::canonicalize(data_dir).map_err(RuntimeError::io("find", data_dir))?;
    let layout = Layout::new(&data_dir);
    let Layout { engines, prepared, instances, kept, trash, run, scratch, short_run: _ } = &layout;
    for dir in [engines, prepared, instances, kept, trash, run, scratch] {
        files::ensure_dir(dir, 0o711)?;
    }
    volumes::empty_trash(&layout)?;
    Ok(layout)
}

/// Writes a server's configuration.
fn configure(place: &Place, spec: &ServerSpec, account: &Account, reflink: bool) -> Result<(), RuntimeError> {
    match files::data_major(&place.data)? {
        Some(major) if major == spec.major => {}
        found => {
            let detail =
                found.map_or_else(|| "it is missing".to_owned(), |major| format!("it holds PostgreSQL {major}"));
            return Err(RuntimeError::NotOurs { path: place.data.clone(), detail });
        }
    }
    // Until the copy itself is durable its files need not be, one by one.
    let durable = !files::exists(&place.unsynced)?;
    let write = |name: &str, text: &str| files::write_atomic(&place.data.join(name), text.as_bytes(), account, durable);
    if let Some(tls) = &spec.tls {
        files::ensure_owned_dir(&place.tls, account)?;
        let put =
            |name: &str, text: &str| files::write_atomic(&place.tls.join(name), text.as_bytes(), account, durable);
        put("server.crt", &tls.certificate_pem)?;
        put("server.key", tls.key_pem.expose_secret())?;
    } else {
        files::remove_tree(&place.tls)?;
    }
    let listen = spec.listen.to_string();
    let around = conf::Surroundings {
        listen: &listen,
        port: spec.port,
        socket_dir: &place.socket_dir,
        log_dir: Some(&place.log),
        tls_dir: &place.tls,
        reflink,
    };
    write(conf::OUR_FILE, &conf::settings(spec, around))?;
    write("postgresql.conf", conf::MAIN)?;
    write("pg_hba.conf", &conf::host_based_authentication(spec.tls.is_some(), AdminAccess::Socket))?;
    write("pg_ident.conf", &conf::identities(&account.daemon, &account.name))
}
