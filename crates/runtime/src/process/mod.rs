//! PostgreSQL servers as processes of this machine.
//!
//! A server is started directly, in a session of its own, and belongs to nobody: the daemon that started it may end,
//! and the next one finds it again through its data directory and `/proc`. Everything of an instance lies under
//! `instances/ID`; its data comes from a prepared directory by copy.

mod account;
mod config;
mod copy;
mod engines;
mod identity;
mod install;
mod layout;
mod logs;
mod machine;
mod prepared;
mod server;
mod tool;

pub use machine::machine;

use crate::spec::{AdminTarget, Engine, LogOptions, Observed, ServerSpec, Tool};
use crate::{ByteStream, RunningTool, Runtime, RuntimeError};
use account::Account;
use async_trait::async_trait;
use config::Places;
use engines::Engines;
use layout::{Layout, ensure_private};
use pgdb_core::instance::RuntimeKind;
use secrecy::ExposeSecret;
use server::{Paths, gone_is_fine};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Mutex;

/// Beside kept data: the instance that it is from.
const KEPT_FROM: &str = "instance";

/// What this runtime needs to know.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The daemon's data directory.
    pub data_dir: PathBuf,
    /// A folder of installations, `MAJOR/bin`, that go before the system's.
    pub engines_dir: Option<PathBuf>,
    /// Where else to look for programs, as in `PATH`.
    pub path: Option<OsString>,
    /// The operating-system user of servers when the daemon is root.
    pub run_as: String,
    /// How long a server may take until it accepts connections; recovery after a crash counts.
    pub start_timeout: Duration,
    /// How long a server may take to stop cleanly.
    pub stop_timeout: Duration,
}

/// The runtime.
#[derive(Debug)]
pub struct ProcessRuntime {
    config: ProcessConfig,
    layout: Layout,
    engines: Engines,
    preparing: Mutex<()>,
}

impl ProcessRuntime {
    /// A runtime over a data directory.
    pub fn new(config: ProcessConfig) -> Self {
        let layout = Layout::new(&config.data_dir);
        let engines = Engines::new(config.engines_dir.clone(), layout.engines(), config.path.clone());
        Self { config, layout, engines, preparing: Mutex::default() }
    }

    fn account(&self) -> Result<Account, RuntimeError> {
        Account::resolve(&self.config.run_as)
    }

    fn paths(&self, id: &str) -> Paths {
        Paths { data: self.layout.data(id), log: self.layout.log(id) }
    }

    /// Moves a folder out of the way and deletes it there, so that what is half deleted never looks like data.
    fn trash(&self, folder: &Path, id: &str) -> Result<(), RuntimeError> {
        let trash = self.layout.trash();
        fs::create_dir_all(&trash).map_err(RuntimeError::io("make the folder", &trash))?;
        let target = trash.join(id);
        gone_is_fine(fs::remove_dir_all(&target)).map_err(RuntimeError::io("remove", &target))?;
        gone_is_fine(fs::rename(folder, &target)).map_err(RuntimeError::io("move away", folder))?;
        gone_is_fine(fs::remove_dir_all(&target)).map_err(RuntimeError::io("remove", &target))
    }

    fn remove_socket(&self, id: &str) -> Result<(), RuntimeError> {
        let socket = self.layout.socket(id);
        gone_is_fine(fs::remove_dir_all(&socket)).map_err(RuntimeError::io("remove", &socket))
    }

    /// The volume that already keeps, or is about to keep, the data of this instance.
    fn kept_from(&self, id: &str) -> Option<String> {
        let volumes = fs::read_dir(self.layout.kept_volumes()).ok()?;
        let mut names = volumes.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.find(|name| fs::read_to_string(self.layout.kept(name).join(KEPT_FROM)).is_ok_and(|from| from == id))
    }

    /// Makes the folder of the first free volume name and notes whose data it will hold, before that moves there, so
    /// that a repeated call finds the same name.
    fn reserve_volume(&self, spec: &ServerSpec) -> Result<String, RuntimeError> {
        let names = (1..).map(|n| if n == 1 { spec.volume.clone() } else { format!("{}-{n}", spec.volume) });
        let is_free = |name: &String| {
            let folder = self.layout.kept(name);
            // A folder without data is left of a volume that was taken into use, or waits for another instance's data.
            let waits = || {
                fs::read_to_string(folder.join(KEPT_FROM)).is_ok_and(|from| self.layout.instance(&from).exists())
            };
            !folder.join("data").exists() && !waits()
        };
        let volume = names.into_iter().find(is_free).unwrap_or_else(|| spec.volume.clone());
        let folder = self.layout.kept(&volume);
        fs::create_dir_all(&folder).map_err(RuntimeError::io("make the folder", &folder))?;
        fs::write(folder.join(KEPT_FROM), &spec.id).map_err(RuntimeError::io("write in", &folder))?;
        Ok(volume)
    }

    /// The folder of an instance, with its log folder.
    fn ensure_instance(&self, id: &str, account: &Account) -> Result<PathBuf, RuntimeError> {
        let instance = self.layout.instance(id);
        ensure_private(&instance, account, 0o700, false)?;
        ensure_private(&self.layout.log(id), account, 0o700, false)?;
        account.check_reachable(&instance)?;
        Ok(instance)
    }

    fn create_blocking(&self, spec: &ServerSpec, prepared: &Path, account: &Account) -> Result<(), RuntimeError> {
        let instance = self.ensure_instance(&spec.id, account)?;
        let data = self.layout.data(&spec.id);
        if data.exists() {
            return Ok(());
        }
        let partial = instance.join("data.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(RuntimeError::io("remove", &partial))?;
        }
        let owner = account.switch.then_some((account.uid, account.gid));
        let copied = copy::copy_tree(prepared, &partial, owner);
        if let Err(error) = copied.and_then(|()| identity::set(&partial, spec.system_identifier)) {
            // On a full disk what is half copied would keep even its own failure from being written down.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        fs::rename(&partial, &data).map_err(RuntimeError::io("move into place", &data))
    }

    fn configure_blocking(&self, spec: &ServerSpec, account: &Account) -> Result<(), RuntimeError> {
        let instance = self.ensure_instance(&spec.id, account)?;
        let (data, log, socket) = (self.layout.data(&spec.id), self.layout.log(&spec.id), self.layout.socket(&spec.id));
        let reflink = spec.major >= 18 && copy::can_reflink(&instance);
        let places = Places { instance: &instance, log: &log, socket: &socket, reflink };
        if let Some(tls) = &spec.tls {
            write_file(&instance.join(config::CERTIFICATE), &tls.certificate_pem, account)?;
            write_file(&instance.join(config::KEY), tls.key_pem.expose_secret(), account)?;
        }
        write_file(&data.join("postgresql.conf"), &config::postgresql_conf(spec, &places), account)?;
        write_file(&data.join("pg_hba.conf"), &config::pg_hba_conf(spec), account)?;
        write_file(&data.join("pg_ident.conf"), &config::pg_ident_conf(account), account)
    }
}

/// Replaces a file by rename, readable by the servers' user alone.
fn write_file(path: &Path, text: &str, account: &Account) -> Result<(), RuntimeError> {
    let failed = || RuntimeError::io("write", path);
    let mut making = path.as_os_str().to_owned();
    making.push(".making");
    let making = PathBuf::from(making);
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making);
    let mut file = open.map_err(failed())?;
    account.own(&making)?;
    file.write_all(text.as_bytes()).map_err(failed())?;
    fs::rename(&making, path).map_err(failed())
}

/// A clean environment: nothing of the daemon's reaches a server, its secrets least of all.
fn environment(command: &mut Command, engine: &Engine) {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    if !engine.bin_dir.starts_with("/usr/") {
        // An installation of its own brings its own libraries, some of which name no place to find them.
        command.env("LD_LIBRARY_PATH", engine.bin_dir.join("../lib"));
    }
    command.current_dir("/");
}

/// Writes everything of a folder's file system to its disk.
fn sync_file_system(folder: &Path) -> Result<(), RuntimeError> {
    let handle = fs::File::open(folder).map_err(RuntimeError::io("open", folder))?;
    rustix::fs::syncfs(&handle).map_err(|error| RuntimeError::io("sync", folder)(error.into()))
}

/// Runs file work away from the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| RuntimeError::io("work on files in", "/")(std::io::Error::other(error)))?
}

impl ProcessRuntime {
    /// A copy that can be moved into a blocking task.
    fn hand_over(&self) -> Self {
        Self::new(self.config.clone())
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    async fn engines(&self) -> Result<Vec<Engine>, RuntimeError> {
        Ok(self.engines.list().await)
    }

    async fn install(&self, major: u16, source: Option<&Path>) -> Result<(), RuntimeError> {
        match source {
            Some(source) => install::from_path(major, source, &self.layout.engines()).await?,
            None if self.engines.get(major).await.is_ok() => return Ok(()),
            None => install::from_packages(major).await?,
        }
        self.engines.get(major).await.map(drop)
    }

    async fn prepare(&self, major: u16) -> Result<(), RuntimeError> {
        let _alone = self.preparing.lock().await;
        let engine = self.engines.get(major).await?;
        prepared::ensure(&self.layout.prepared(), &engine, &self.account()?).await.map(drop)
    }

    async fn create(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let engine = self.engines.get(spec.major).await?;
        let (prepared, account) = (prepared::path(&self.layout.prepared(), &engine), self.account()?);
        let (this, spec) = (self.hand_over(), spec.clone());
        blocking(move || this.create_blocking(&spec, &prepared, &account)).await
    }

    async fn configure(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let (this, spec, account) = (self.hand_over(), spec.clone(), self.account()?);
        blocking(move || this.configure_blocking(&spec, &account)).await
    }

    async fn start(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let engine = self.engines.get(spec.major).await?;
        let account = self.account()?;
        self.layout.ensure_socket_folder(&spec.id, &account)?;
        server::start(&engine, &account, &self.paths(&spec.id), spec.port, self.config.start_timeout).await
    }

    async fn stop(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        server::stop(&self.layout.data(&spec.id), self.config.stop_timeout).await
    }

    async fn sync(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let data = self.layout.data(&spec.id);
        blocking(move || sync_file_system(&data)).await
    }

    async fn remove(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        self.discard(&spec.id).await
    }

    async fn keep(&self, spec: &ServerSpec) -> Result<String, RuntimeError> {
        let (this, spec) = (self.hand_over(), spec.clone());
        blocking(move || {
            let data = this.layout.data(&spec.id);
            let volume = match this.kept_from(&spec.id) {
                Some(volume) => volume,
                None if data.exists() => this.reserve_volume(&spec)?,
                // Nothing is there to be kept; what lies under the name is somebody else's.
                None => spec.volume.clone(),
            };
            let target = this.layout.kept(&volume).join("data");
            gone_is_fine(fs::rename(&data, &target)).map_err(RuntimeError::io("put aside", &data))?;
            this.trash(&this.layout.instance(&spec.id), &spec.id)?;
            this.remove_socket(&spec.id)?;
            Ok(volume)
        })
        .await
    }

    async fn kept(&self, volume: &str) -> Result<Option<u16>, RuntimeError> {
        Ok(prepared::major_in(&self.layout.kept(volume).join("data")))
    }

    async fn restore_kept(&self, volume: &str, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let (this, spec, volume, account) = (self.hand_over(), spec.clone(), volume.to_owned(), self.account()?);
        blocking(move || {
            this.ensure_instance(&spec.id, &account)?;
            let (data, kept) = (this.layout.data(&spec.id), this.layout.kept(&volume));
            if data.exists() {
                // An earlier try has moved it.
                return remove_emptied(&kept);
            }
            match prepared::major_in(&kept.join("data")) {
                Some(major) if major == spec.major => {}
                Some(major) => {
                    let message = format!("the kept data is of PostgreSQL {major}, not {}", spec.major);
                    return Err(RuntimeError::Unsupported(message));
                }
                None => {
                    let detail = "no PostgreSQL data is in it".to_owned();
                    return Err(RuntimeError::NotOurs { path: kept, detail });
                }
            }
            fs::rename(kept.join("data"), &data).map_err(RuntimeError::io("take into use", &kept))?;
            remove_emptied(&kept)
        })
        .await
    }

    async fn observe(&self, spec: &ServerSpec) -> Result<Observed, RuntimeError> {
        let data = self.layout.data(&spec.id);
        blocking(move || Ok(server::observe(&data))).await
    }

    async fn exited(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        server::exited(&self.layout.data(&spec.id)).await
    }

    fn admin_target(&self, spec: &ServerSpec) -> AdminTarget {
        AdminTarget::Socket { dir: self.layout.socket(&spec.id), port: spec.port }
    }

    async fn logs(&self, spec: &ServerSpec, options: LogOptions) -> Result<ByteStream, RuntimeError> {
        Ok(Box::new(logs::stream(self.layout.log(&spec.id), options)))
    }

    async fn disk_usage(&self, spec: &ServerSpec) -> Result<u64, RuntimeError> {
        let data = self.layout.data(&spec.id);
        blocking(move || Ok(disk_usage(&data))).await
    }

    async fn last_log_lines(&self, spec: &ServerSpec) -> Result<Vec<String>, RuntimeError> {
        let log = self.layout.log(&spec.id);
        blocking(move || Ok(logs::last_lines(&log))).await
    }

    async fn tool(&self, spec: &ServerSpec, tool: Tool<'_>) -> Result<RunningTool, RuntimeError> {
        let engine = self.engines.get(spec.major).await?;
        tool::run(&engine, &self.account()?, &self.layout.socket(&spec.id), spec.port, tool)
    }

    async fn inventory(&self) -> Result<Vec<String>, RuntimeError> {
        let instances = self.layout.instances();
        let entries = match fs::read_dir(&instances) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(RuntimeError::io("read the folder", &instances))?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    async fn discard(&self, id: &str) -> Result<(), RuntimeError> {
        let (this, id) = (self.hand_over(), id.to_owned());
        let grace = self.config.stop_timeout;
        server::stop(&self.layout.data(&id), grace).await?;
        blocking(move || {
            this.trash(&this.layout.instance(&id), &id)?;
            this.remove_socket(&id)
        })
        .await
    }

    async fn prune_logs(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let log = self.layout.log(&spec.id);
        blocking(move || logs::prune(&log)).await
    }
}

/// Removes the folder of a volume whose data was moved away.
fn remove_emptied(kept: &Path) -> Result<(), RuntimeError> {
    if kept.join("data").exists() {
        return Ok(());
    }
    gone_is_fine(fs::remove_dir_all(kept)).map_err(RuntimeError::io("remove", kept))
}

/// Bytes of disk under a folder. What disappears meanwhile counts for nothing.
fn disk_usage(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => disk_usage(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
