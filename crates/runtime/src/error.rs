//! Why a runtime could not do something.

use std::io;
use std::path::PathBuf;

/// A failure of a runtime. Its text tells a person what happened and what to do; a variant stands only
/// where a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No installation of this major.
    #[error(
        "PostgreSQL {major} is not installed here (found: {}); run `pgdb engine install {major}` or choose one of those with --version",
        list(found)
    )]
    EngineMissing {
        /// The major asked for.
        major: u16,
        /// The majors that are there.
        found: Vec<u16>,
    },
    /// No client programs that can talk to a server of this major.
    #[error(
        "the client programs of PostgreSQL {major} are not here (found: {}), and templates are dumped and read by them; run \
         `pgdb engine install {major}` on the daemon's machine, or set PGDB_ENGINES_DIR to where they are",
        list(found)
    )]
    ClientsMissing {
        /// The server's major.
        major: u16,
        /// The majors that are there.
        found: Vec<u16>,
    },
    /// Something else listens on the port.
    #[error("port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The file system is full.
    #[error("no space left on the file system of {}; free some or move PGDB_DATA_DIR", path.display())]
    DiskFull {
        /// A path on that file system.
        path: PathBuf,
    },
    /// A directory is there that we did not make, or that belongs to somebody else.
    #[error("{} is not ours: {detail}; move it away or choose another PGDB_DATA_DIR", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is odd about it.
        detail: String,
    },
    /// The server ended, or did not become ready.
    #[error("the PostgreSQL server did not start: {reason}")]
    ServerFailed {
        /// The reason from its log.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The server did not accept connections within the time it had, and trying once more would take as long again.
    #[error("the PostgreSQL server did not start: {reason}")]
    NotReady {
        /// What it did instead.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A client program failed.
    #[error("{program} failed: {stderr}")]
    ToolFailed {
        /// Which program.
        program: String,
        /// The end of its error output.
        stderr: String,
    },
    /// The container engine does not answer.
    #[error(
        "the Docker engine at {host} cannot be reached: {detail}; start it (`systemctl start docker`), or set DOCKER_HOST \
         to where one listens"
    )]
    ContainersUnavailable {
        /// Where it was looked for.
        host: String,
        /// What went wrong.
        detail: String,
    },
    /// The image of a major is not there and was not to be had.
    #[error("the image {image} is not there: {detail}; `docker pull {image}`, or set PGDB_DOCKER_IMAGE to one that is")]
    ImageMissing {
        /// Its name.
        image: String,
        /// Why it could not be had.
        detail: String,
    },
    /// Something of the name that we need is there and belongs to somebody else.
    #[error("{what} is not ours: {detail}")]
    InTheWay {
        /// What it is, with its name.
        what: String,
        /// What is known of it, and what to do.
        detail: String,
    },
    /// The container engine refused.
    #[error("the Docker engine could not {action}: {message}")]
    Containers {
        /// Verb and object.
        action: String,
        /// What it said.
        message: String,
    },
    /// A call that this runtime cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// An operating-system call failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// Verb and object, such as "copy".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RuntimeError {
    /// For `map_err`: adds what was tried to an I/O error, and recognises a full disk.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }
}

fn list(majors: &[u16]) -> String {
    if majors.is_empty() {
        return "none".to_owned();
    }
    majors.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
