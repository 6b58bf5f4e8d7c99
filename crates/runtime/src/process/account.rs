//! The operating-system user that servers run as: never root.

use crate::RuntimeError;
use nix::unistd::{Gid, Uid, User};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::process::Command;

/// Whom servers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether we are root and have to change to it.
    pub(super) switch: bool,
    /// The user that the daemon itself runs as.
    pub(super) daemon: String,
}

impl Account {
    /// Ourselves, or `wanted` when we are root.
    pub(super) fn resolve(wanted: &str) -> Result<Self, RuntimeError> {
        let me = Uid::effective();
        let my_name = User::from_uid(me).ok().flatten().map_or_else(|| me.to_string(), |user| user.name);
        if !me.is_root() {
            let gid = Gid::effective().as_raw();
            return Ok(Self { name: my_name.clone(), uid: me.as_raw(), gid, switch: false, daemon: my_name });
        }
        let user = User::from_name(wanted).ok().flatten().filter(|user| !user.uid.is_root());
        let Some(user) = user else {
            return Err(RuntimeError::Unsupported(format!(
                "PostgreSQL never runs as root, and there is no user '{wanted}' to run it as; make one with \
                 `useradd --system {wanted}`, or name another with --run-as"
            )));
        };
        Ok(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), switch: true, daemon: my_name })
    }

    /// Makes a command run as this user.
    pub(super) fn apply(&self, command: &mut Command) {
        if self.switch {
            // Setting a user as root drops the supplementary groups as well.
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or folder to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), RuntimeError> {
        if !self.switch {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).map_err(RuntimeError::io("give away", path))
    }

    /// Whether this user can get to a folder; names the one that stands in the way.
    pub(super) fn check_reachable(&self, path: &Path) -> Result<(), RuntimeError> {
        if !self.switch {
            return Ok(());
        }
        for folder in path.ancestors() {
            let Ok(found) = std::fs::metadata(folder) else { continue };
            let reachable = match (found.uid() == self.uid, found.gid() == self.gid) {
                (true, _) => found.mode() & 0o100 != 0,
                (false, true) => found.mode() & 0o010 != 0,
                (false, false) => found.mode() & 0o001 != 0,
            };
            if !reachable {
                return Err(RuntimeError::Unsupported(format!(
                    "the user '{}' that servers run as cannot get to {} because {} is closed to it; choose another \
                     PGDB_DATA_DIR, or `chmod o+x {}`",
                    self.name,
                    path.display(),
                    folder.display(),
                    folder.display()
                )));
            }
        }
        Ok(())
    }
}
