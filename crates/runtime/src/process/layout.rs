//! Where things are under the daemon's data directory.

use super::account::Account;
use crate::RuntimeError;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path of a unix socket that the kernel takes, without its closing zero.
const LONGEST_SOCKET: usize = 107;

/// The folders of this runtime.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    sockets: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        let inside = root.join("run");
        // An id has at most 20 characters.
        let longest = inside.join("in_xxxxxxxxxxxxxxxxx/.s.PGSQL.65535").as_os_str().len();
        let sockets = if longest <= LONGEST_SOCKET {
            inside
        } else {
            PathBuf::from(format!("/tmp/pgdb-{:08x}", crc32c::crc32c(root.as_os_str().as_encoded_bytes())))
        };
        Self { root: root.to_owned(), sockets }
    }

    /// Engines that we installed, `engines/MAJOR/bin`.
    pub(super) fn engines(&self) -> PathBuf {
        self.root.join("engines")
    }

    /// Prepared data directories, one per engine version.
    pub(super) fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
    }

    /// All instances.
    pub(super) fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// Everything of one instance but its socket.
    pub(super) fn instance(&self, id: &str) -> PathBuf {
        self.instances().join(id)
    }

    /// Its data directory.
    pub(super) fn data(&self, id: &str) -> PathBuf {
        self.instance(id).join("data")
    }

    /// Its logs.
    pub(super) fn log(&self, id: &str) -> PathBuf {
        self.instance(id).join("log")
    }

    /// The folder of its private socket.
    pub(super) fn socket(&self, id: &str) -> PathBuf {
        self.sockets.join(id)
    }

    /// All data that was kept, by volume name.
    pub(super) fn kept_volumes(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// Data that was kept.
    pub(super) fn kept(&self, volume: &str) -> PathBuf {
        self.kept_volumes().join(volume)
    }

    /// What is being deleted.
    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Makes the folder of an instance's socket: private, and really ours even where anybody can make folders.
    pub(super) fn ensure_socket_folder(&self, id: &str, account: &Account) -> Result<(), RuntimeError> {
        if !self.sockets.starts_with(&self.root) {
            ensure_private(&self.sockets, account, 0o711, true)?;
        }
        ensure_private(&self.socket(id), account, 0o700, false)
    }
}

/// Makes a folder that belongs to the servers' user, or to us, with exactly this mode.
pub(super) fn ensure_private(path: &Path, account: &Account, mode: u32, ours: bool) -> Result<(), RuntimeError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(RuntimeError::io("make the folder", parent))?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(RuntimeError::io("make the folder", path)(error));
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(path).map_err(RuntimeError::io("look at", path))?;
    let expected = [nix::unistd::geteuid().as_raw(), account.uid];
    if !found.is_dir() || !expected.contains(&found.uid()) {
        let detail = format!("it is no folder of ours (owner {})", found.uid());
        return Err(RuntimeError::NotOurs { path: path.to_owned(), detail });
    }
    if !ours {
        account.own(path)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(RuntimeError::io("protect", path))
}
