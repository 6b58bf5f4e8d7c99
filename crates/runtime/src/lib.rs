//! Running PostgreSQL servers: one trait, and a folder for each thing that can run them.
//!
//! A runtime knows nothing of SQL, of names of people's databases or of our state: it is given a
//! [`ServerSpec`] and makes the world match it. Every call looks before it acts, so that it can be
//! repeated after a crash at any point.

mod conf;
pub mod docker;
pub mod error;
pub mod kubernetes;
mod net;
pub mod process;
mod reasons;
mod seed;
pub mod spec;

pub use error::RuntimeError;

use async_trait::async_trait;
use pgdb_core::instance::RuntimeKind;
use spec::{AdminTarget, Adoptable, Engine, LogOptions, Observed, ServerSpec, Tool, ToolServer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio::io::AsyncRead;

/// A log or dump as it is produced.
pub type ByteStream = Box<dyn AsyncRead + Send + Unpin>;

/// Something that PostgreSQL servers can run on.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Which runtime this is.
    fn kind(&self) -> RuntimeKind;

    /// The PostgreSQL majors that can be run, newest first.
    async fn engines(&self) -> Result<Vec<Engine>, RuntimeError>;

    /// The major of a new server: the wanted one if it can be run, or the one that is run when nothing is said.
    async fn choose_major(&self, wanted: Option<u16>) -> Result<u16, RuntimeError>;

    /// Whether data lies under its volume's name from the start, and cannot be given another: then the name has to be
    /// free when a server is deployed, and [`ServerSpec::volume`] of a server made of kept data is that data's.
    fn volumes_keep_their_name(&self) -> bool;

    /// The volume name of a server: `pgdb-NAME`, unless the runtime was told to put something else before the name.
    fn volume_name(&self, name: &str) -> String {
        format!("pgdb-{name}")
    }

    /// Installs a major from an archive or folder, or without one from the system's packages. Whole or not at all.
    async fn install(&self, major: u16, source: Option<&Path>) -> Result<Engine, RuntimeError>;

    /// Makes ready what all servers of this major share (a prepared data directory, an image). Idempotent;
    /// of several calls at once one does the work.
    async fn prepare(&self, major: u16) -> Result<(), RuntimeError>;

    /// Makes the server's data: a copy of the prepared one, whole or not at all. Idempotent.
    async fn create(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Writes the server's configuration, replacing an older one. Takes effect at the next start.
    async fn configure(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Starts the server unless it runs, and returns once it accepts connections.
    ///
    /// [`RuntimeError::PortTaken`] when something else listens on the port.
    async fn start(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Stops the server cleanly, by force after a grace period. Returns once no process is left. Idempotent.
    async fn stop(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Makes the created data durable, so that a power loss after a deploy cannot lose it. Idempotent.
    async fn sync(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Removes the data of a stopped server and whatever else it has. Idempotent.
    async fn remove(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Puts the data of a stopped server aside and removes the rest. Idempotent.
    ///
    /// Returns the name that it is kept under: [`ServerSpec::volume`], or with `-2`, `-3`… behind it when something
    /// is kept under that name already, or the name is one of `reserved`.
    async fn keep(&self, spec: &ServerSpec, reserved: &BTreeSet<String>) -> Result<String, RuntimeError>;

    /// Whether data kept under this volume name exists, and of which major.
    async fn kept(&self, volume: &str) -> Result<Option<u16>, RuntimeError>;

    /// Whether data lies under this volume name that the original daemon has kept: nobody's by its labels, and in use by
    /// nothing. Its [`ServerSpec::system_identifier`] is [`spec::UNLABELLED`].
    ///
    /// [`RuntimeError::InTheWay`] when something uses it.
    async fn kept_by_the_original(&self, volume: &str) -> Result<bool, RuntimeError>;

    /// Takes data kept under `volume` into use as the data of `spec`; from its start on the administrator gets in, whoever
    /// made it. Idempotent.
    async fn restore_kept(&self, volume: &str, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// The server that the original daemon's registry, or an export of ours, knows by this container and name; nothing
    /// where there is no such container.
    async fn adoptable(&self, container: &str, name: &str) -> Result<Option<Adoptable>, RuntimeError>;

    /// What the server is seen to be now.
    async fn observe(&self, spec: &ServerSpec) -> Result<Observed, RuntimeError>;

    /// The same of many servers, in their order.
    async fn observe_all(&self, specs: &[ServerSpec]) -> Result<Vec<Observed>, RuntimeError>;

    /// Waits until a running server has ended; returns at once if none runs.
    async fn exited(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// Lets our administrator in, with [`ServerSpec::admin_verifier`], on a running server that another daemon has made.
    /// Nothing to do where it needs no password.
    async fn admit_admin(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;

    /// How our own administrator connects.
    fn admin_target(&self, spec: &ServerSpec) -> AdminTarget;

    /// Host and port by which this daemon reaches the server over TCP, as its clients do.
    fn address(&self, spec: &ServerSpec) -> (String, u16);

    /// The server's log.
    async fn logs(&self, spec: &ServerSpec, options: LogOptions) -> Result<ByteStream, RuntimeError>;

    /// Bytes of disk the server's data takes.
    async fn disk_usage(&self, spec: &ServerSpec) -> Result<u64, RuntimeError>;

    /// The last lines of the server's log that say why it failed, at most 20.
    async fn last_log_lines(&self, spec: &ServerSpec) -> Result<Vec<String>, RuntimeError>;

    /// A client program (`pg_dump`, `pg_restore`, `psql`) of the server's own major, connecting to it as the given role.
    async fn tool(&self, spec: &ServerSpec, tool: Tool<'_>) -> Result<RunningTool, RuntimeError>;

    /// Ids of servers that this runtime holds data or processes of, for the search for orphans.
    async fn inventory(&self) -> Result<Vec<String>, RuntimeError>;

    /// Disposes of a server that no record knows: stops it and removes its data.
    async fn discard(&self, id: &str) -> Result<(), RuntimeError>;

    /// Rotates logs: keeps the newest files and removes the rest. Called on the slow tick.
    async fn prune_logs(&self, spec: &ServerSpec) -> Result<(), RuntimeError>;
}

/// Client programs of the daemon's machine, and the files that they work on.
#[async_trait]
pub trait ClientPrograms: Send + Sync + 'static {
    /// The majors whose client programs are here, newest first.
    async fn clients(&self) -> Result<Vec<Engine>, RuntimeError>;

    /// A client program, connecting as the given role. Of an own server's major, and for another server the oldest that
    /// is not older than it.
    async fn client(&self, server: ToolServer<'_>, tool: Tool<'_>) -> Result<RunningTool, RuntimeError>;

    /// A folder of this name that client programs may write to and nobody else may enter. Idempotent.
    async fn scratch(&self, name: &str) -> Result<PathBuf, RuntimeError>;

    /// Moves a file into such a folder, under the name that it has, and lets client programs read it. Idempotent.
    async fn lend(&self, file: &Path, name: &str) -> Result<PathBuf, RuntimeError>;

    /// Removes such a folder with all that is in it. Idempotent.
    async fn remove_scratch(&self, name: &str) -> Result<(), RuntimeError>;

    /// The names of all such folders.
    async fn scratches(&self) -> Result<Vec<String>, RuntimeError>;
}

/// A client program at work.
pub struct RunningTool {
    /// What it writes.
    pub stdout: ByteStream,
    /// Resolves when it has ended: its error output when it failed.
    pub finished: futures::future::BoxFuture<'static, Result<(), RuntimeError>>,
}
