//! The directory that everything is kept in.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One of these in a directory says that it is pgdb's.
/// (`pgdb.log` is there first when `make run` starts the daemon.)
const OURS: [&str; 6] = ["state.db", "registry.lock", "registry.json", "master.key", "token", "pgdb.log"];

/// Why a directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It could not be made or read.
    #[error("could not use the data directory {}; give another --data-dir", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else's.
    #[error(
        "the data directory {} belongs to user id {owner}, and pgdb runs as {us}: run it as that user, or give another \
         --data-dir", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Something else is kept there.
    #[error(
        "{} holds files that are not pgdb's; give --data-dir a directory that is empty or does not exist",
        path.display()
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
}

/// Makes the data directory, or checks that it is ours.
///
/// The databases' user must be able to pass through it when the daemon is root; what is secret in it has
/// permissions of its own.
pub fn prepare(path: &Path, root: bool) -> Result<(), DataDirError> {
    let explain = |source| DataDirError::Io { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(explain)?;
    let (owner, us) = (std::fs::metadata(path).map_err(explain)?.uid(), nix::unistd::geteuid().as_raw());
    if owner != us {
        return Err(DataDirError::Foreign { path: path.to_owned(), owner, us });
    }
    let mut occupied = false;
    for entry in std::fs::read_dir(path).map_err(explain)? {
        let name = entry.map_err(explain)?.file_name();
        if OURS.iter().any(|ours| name == *ours) {
            occupied = false;
            break;
        }
        // A file system's own folder.
        occupied |= name != "lost+found";
    }
    if occupied {
        return Err(DataDirError::Occupied { path: path.to_owned() });
    }
    let mode = if root { 0o711 } else { 0o700 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_files_is_left_alone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a/b");
        let mode = || std::fs::metadata(&path).map(|metadata| metadata.mode() & 0o777);
        prepare(&path, true).map_err(io::Error::other)?;
        assert_eq!(mode()?, 0o711);
        std::fs::write(path.join("state.db"), "")?;
        std::fs::write(path.join("another"), "")?;
        prepare(&path, false).map_err(io::Error::other)?;
        assert_eq!(mode()?, 0o700);
        std::fs::remove_file(path.join("state.db"))?;
        let message = prepare(&path, true).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("not pgdb's"), "{message}");
        assert_eq!(mode()?, 0o700, "its permissions were not touched");
        Ok(())
    }
}
