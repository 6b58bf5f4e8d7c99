//! What a runtime is told and what it answers. Plain data.

use pgdb_core::sizing::ServerSettings;
use secrecy::SecretString;
use std::net::IpAddr;
use std::path::PathBuf;

/// The [`ServerSpec::system_identifier`] of data that the original daemon has made, for which none was drawn.
pub const UNLABELLED: u64 = 0;

/// The role that our own administrator connects as; the bootstrap superuser of every server.
pub const ADMIN_ROLE: &str = "pgdb_admin";
/// The role that a new server's data holds, to be renamed for its owner. It cannot log in until then.
pub const PREPARED_ROLE: &str = "pgdb_prepared_role";
/// The database that a new server's data holds, owned by [`PREPARED_ROLE`], to be renamed for its owner.
pub const PREPARED_DB: &str = "pgdb_prepared_db";

/// One server as it should be.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Our identifier; safe as a file name.
    pub id: String,
    /// What the person calls it.
    pub name: String,
    /// The volume name of the contract, `pgdb-NAME`; data that is kept is kept under it.
    pub volume: String,
    /// PostgreSQL major.
    pub major: u16,
    /// The address its server listens on.
    pub listen: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// Memory and connection settings.
    pub settings: ServerSettings,
    /// Certificate and key when TLS is on; then plain TCP connections are refused.
    pub tls: Option<TlsFiles>,
    /// 64 random bits that become the system identifier of its copy (adr 0003), or [`UNLABELLED`].
    pub system_identifier: u64,
    /// The disk that was asked for, in GB.
    pub size_gb: Option<u32>,
    /// The memory that was asked for, in MiB; a limit where the runtime can set one.
    pub memory_mb: Option<u64>,
    /// SCRAM verifier of [`ADMIN_ROLE`], for data that is made where our administrator has to come over the network.
    pub admin_verifier: Option<String>,
    /// The container that was noted when it was last seen.
    pub container: Option<String>,
}

/// A server certificate, PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: SecretString,
}

/// One PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Major version, 13 to 18.
    pub major: u16,
    /// Full version, such as `16.15`.
    pub version: String,
    /// Where it is: the folder of its programs, or the name of its image.
    pub bin_dir: PathBuf,
}

/// What a server is seen to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It accepts connections.
    Running {
        /// Process id of the server's first process, where the runtime knows it.
        pid: Option<u32>,
        /// The engine's id of its container, where it runs in one.
        container: Option<String>,
    },
    /// Its process is there but does not accept connections yet (start-up, recovery, shutdown).
    Starting {
        /// Process id.
        pid: Option<u32>,
    },
    /// Its data is there and no process runs.
    Stopped,
    /// There is no data.
    Missing,
}

/// A server that runs or could run and is no record's yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoptable {
    /// The engine's id of its container.
    pub container: String,
    /// Our identifier, if a daemon of ours has made it.
    pub id: Option<String>,
    /// The system identifier that was drawn for its data, if a daemon of ours has made it.
    pub system_identifier: Option<u64>,
    /// The address that its port is published on, if one is.
    pub listen: Option<IpAddr>,
    /// The volumes that it has.
    pub volumes: Vec<String>,
    /// Whether it was made with TLS.
    pub tls: bool,
    /// The limit of its memory, in MiB.
    pub memory_mb: Option<u64>,
    /// Its `max_connections`, if a daemon of ours has made it.
    pub max_connections: Option<u32>,
}

/// How our administrator reaches a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminTarget {
    /// A private unix socket that trusts the operating system's user; role [`ADMIN_ROLE`].
    Socket {
        /// Folder of the socket.
        dir: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
    /// TCP with a password: [`ADMIN_ROLE`]'s own, or that of a role that is a superuser.
    Tcp {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Which part of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// How many of the last lines.
    pub lines: usize,
    /// Whether to go on as more is written.
    pub follow: bool,
}

/// The server that a client program is to talk to.
#[derive(Debug, Clone, Copy)]
pub enum ToolServer<'a> {
    /// One of the runtime's own.
    Own(&'a ServerSpec),
    /// Any other, over the network.
    Other(&'a OtherServer),
}

/// A server that is not the runtime's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherServer {
    /// Host name, address, or the folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What libpq calls `sslmode`.
    pub sslmode: String,
    /// PEM file of the authority that has signed its certificate.
    pub sslrootcert: Option<PathBuf>,
    /// Its major: a program is never older than the server it talks to.
    pub major: u16,
}

/// A client program to run on the server's machine.
#[derive(Debug)]
pub struct Tool<'a> {
    /// `pg_dump`, `pg_restore` or `psql`.
    pub program: &'a str,
    /// Its arguments besides the connection, which is given through the environment. Never a secret.
    pub args: &'a [String],
    /// Role.
    pub user: &'a str,
    /// The role's password, handed over outside the argument list. None for [`ADMIN_ROLE`], who needs none.
    pub password: Option<&'a SecretString>,
    /// Database.
    pub db: &'a str,
    /// A file to feed to its standard input.
    pub stdin: Option<PathBuf>,
}
