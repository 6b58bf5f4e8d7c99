//! Where things are under the data directory.

use crate::error::RuntimeError;
use crate::process::files::exists;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A unix socket's path must fit into `sun_path`, which has 108 bytes with its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// What PostgreSQL appends to its socket folder, at its longest.
const SOCKET_NAME: &str = "/.s.PGSQL.65535";

/// The folders of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Engines that we installed.
    pub(crate) engines: PathBuf,
    /// Prepared data directories.
    pub(crate) prepared: PathBuf,
    /// Servers.
    pub(crate) instances: PathBuf,
    /// Data that was put aside.
    pub(crate) kept: PathBuf,
    /// What is being deleted.
    pub(crate) trash: PathBuf,
    /// What client programs read and write on the way: dumps.
    pub(crate) scratch: PathBuf,
    /// Sockets.
    pub(crate) run: PathBuf,
    /// Sockets of a data directory whose own path is too long.
    pub(crate) short_run: PathBuf,
}

/// The paths of one server.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its id.
    pub(crate) id: String,
    /// Everything of it but its socket.
    pub(crate) root: PathBuf,
    /// Its data directory.
    pub(crate) data: PathBuf,
    /// Its data directory while it is being copied.
    pub(crate) partial: PathBuf,
    /// Its logs.
    pub(crate) log: PathBuf,
    /// What it says before its log is open.
    pub(crate) start_log: PathBuf,
    /// Its certificate.
    pub(crate) tls: PathBuf,
    /// Present while its data has not been made durable; holds the machine's boot id.
    pub(crate) unsynced: PathBuf,
    /// The folder of its private socket.
    pub(crate) socket_dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(data_dir: &Path) -> Self {
        let hash = crc32c::crc32c(data_dir.as_os_str().as_bytes());
        Self {
            engines: data_dir.join("engines"),
            prepared: data_dir.join("prepared"),
            instances: data_dir.join("instances"),
            kept: data_dir.join("kept"),
            trash: data_dir.join("trash"),
            scratch: data_dir.join("scratch"),
            run: data_dir.join("run"),
            short_run: PathBuf::from(format!("/tmp/pgdb-{hash:08x}")),
        }
    }

    /// The paths of the server with this id.
    pub(crate) fn place(&self, id: &str) -> Result<Place, RuntimeError> {
        check_name(id)?;
        Ok(self.place_of(id))
    }

    fn place_of(&self, id: &str) -> Place {
        let root = self.instances.join(id);
        let log = root.join("log");
        Place {
            id: id.to_owned(),
            data: root.join("data"),
            partial: root.join("data.partial"),
            start_log: log.join("start.log"),
            tls: root.join("tls"),
            unsynced: root.join("unsynced"),
            socket_dir: self.socket_dir(id),
            log,
            root,
        }
    }

    /// A path in the trash that is not taken.
    pub(crate) fn free_trash(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        for n in 0_u32.. {
            let path = self.trash.join(format!("{name}-{n}"));
            if !exists(&path)? {
                return Ok(path);
            }
        }
        Ok(self.trash.join(name))
    }

    /// The folder of a server's private socket; short enough for the socket's path to fit.
    pub(crate) fn socket_dir(&self, id: &str) -> PathBuf {
        let dir = self.run.join(id);
        if dir.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_MAX { dir } else { self.short_run.join(id) }
    }
}

/// Refuses an id or volume name that would leave its folder. They are made by us, so this is a second lock.
pub(crate) fn check_name(name: &str) -> Result<(), RuntimeError> {
    let fits = !name.is_empty()
        && name.len() <= 80
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits { Ok(()) } else { Err(RuntimeError::Unsupported(format!("{name:?} cannot be the name of a directory"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_always_fits() {
        for length in 1..200 {
            let layout = Layout::new(&PathBuf::from(format!("/{}", "d".repeat(length))));
            let dir = layout.socket_dir("01hzzzzzzzzzzzzzzzzzzzzzzz");
            assert!(dir.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_MAX, "{}", dir.display());
        }
        let short = Layout::new(Path::new("/var/lib/pgdb"));
        assert_eq!(short.socket_dir("a"), Path::new("/var/lib/pgdb/run/a"));
        let path = PathBuf::from(format!("/{}", "d".repeat(120)));
        let long = Layout::new(&path);
        assert!(long.socket_dir("a").starts_with(&long.short_run));
        assert_eq!(long.socket_dir("a"), Layout::new(&path).socket_dir("a"), "the same at every start");
    }

    #[test]
    fn ids_cannot_leave_their_folder() {
        for bad in ["", ".", "..", "a/b", "../x", "-rf", "a\0b", "ä"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("pgdb-my-db_1.x").is_ok());
    }
}
