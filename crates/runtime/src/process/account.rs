//! The operating system's user that servers run as.

use crate::error::RuntimeError;
use crate::spec::Engine;
use nix::unistd::{Uid, User};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Who servers, and the programs that work on their data, run as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// Its name, which peer authentication compares.
    pub(crate) name: String,
    /// The daemon's own user's name, which may differ.
    pub(crate) daemon: String,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Whether we are root and give things to the account.
    switch: bool,
}

impl Account {
    /// The account that servers run as: our own user, or `run_as` when we are root (PostgreSQL refuses root).
    pub(crate) fn resolve(run_as: &str) -> Result<Self, RuntimeError> {
        let own = Uid::effective();
        let daemon = User::from_uid(own).ok().flatten();
        if !own.is_root() {
            let user = daemon.ok_or_else(|| {
                RuntimeError::Unsupported(format!(
                    "the user with id {own} has no name in the system's user database, which PostgreSQL needs; add it to /etc/passwd"
                ))
            })?;
            return Ok(Self {
                name: user.name.clone(),
                daemon: user.name,
                uid: own.as_raw(),
                gid: nix::unistd::getegid().as_raw(),
                switch: false,
            });
        }
        let user = User::from_name(run_as).ok().flatten().ok_or_else(|| {
            RuntimeError::Unsupported(format!(
                "PostgreSQL refuses to run as root and there is no user {run_as:?}; create it with `useradd --system {run_as}`, or run pgdb as another user"
            ))
        })?;
        if user.uid.is_root() {
            return Err(RuntimeError::Unsupported(format!(
                "PostgreSQL refuses to run as root, and {run_as:?} is root"
            )));
        }
        Ok(Self {
            name: user.name,
            daemon: daemon.map_or_else(|| "root".to_owned(), |user| user.name),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            switch: true,
        })
    }

    /// Gives a path to the account. A link itself, never what it points to.
    pub(crate) fn own(&self, path: &Path) -> Result<(), RuntimeError> {
        if !self.switch {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).map_err(RuntimeError::io("give away", path))
    }

    /// Gives an open file to the account.
    pub(crate) fn own_file(&self, file: &File, path: &Path) -> Result<(), RuntimeError> {
        if !self.switch {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid)).map_err(RuntimeError::io("give away", path))
    }

    /// A program to run as the account, with a clean environment, in a session of its own and no open input.
    ///
    /// std drops the supplementary groups itself when it changes the user.
    pub(crate) fn command(&self, program: &Path, engine: Option<&Engine>) -> tokio::process::Command {
        let mut command = std::process::Command::new(program);
        command.env_clear().envs([("LC_ALL", "C"), ("TZ", "UTC")]).current_dir("/").stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(libraries) = engine.and_then(|engine| library_dir(&engine.bin_dir)) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        own_session(&mut command);
        command.into()
    }

    /// The library folder that a program of a relocated installation needs.
    pub(crate) fn library_dir_of(program: &Path) -> Option<PathBuf> {
        program.parent().and_then(library_dir)
    }

    /// The first folder on the way to `path` that the account may not pass through.
    pub(crate) fn first_barrier(&self, path: &Path) -> Option<PathBuf> {
        if !self.switch {
            return None;
        }
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        let barrier = ancestors.into_iter().find(|dir| {
            fs::metadata(dir).is_ok_and(|meta| !passable(meta.mode(), meta.uid(), meta.gid(), self.uid, self.gid))
        })?;
        // The mode may be overruled by an access control list, so the account itself has the last word.
        let entered = std::process::Command::new("/bin/sh")
            .args(["-c", "cd -- \"$0\""])
            .arg(path)
            .env_clear()
            .current_dir("/")
            .uid(self.uid)
            .gid(self.gid)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if entered.is_ok_and(|status| status.success()) { None } else { Some(barrier.to_owned()) }
    }

    /// Fails with a clear text when the account cannot reach `path`.
    pub(crate) fn check_reach(&self, path: &Path) -> Result<(), RuntimeError> {
        let Some(barrier) = self.first_barrier(path) else { return Ok(()) };
        Err(RuntimeError::Unsupported(format!(
            "PostgreSQL runs as the user {:?}, who may not enter {}; allow it with `chmod o+x {}`, or choose another PGDB_DATA_DIR",
            self.name,
            barrier.display(),
            barrier.display(),
        )))
    }
}

/// Where a relocated installation keeps its libraries. One below /usr is known to the system's loader.
fn library_dir(bin_dir: &Path) -> Option<PathBuf> {
    if bin_dir.starts_with("/usr") {
        return None;
    }
    bin_dir.parent().map(|root| root.join("lib")).filter(|lib| lib.is_dir())
}

/// Whether a folder's mode lets a user pass. The most specific class decides, as in the kernel.
fn passable(mode: u32, owner: u32, group: u32, uid: u32, gid: u32) -> bool {
    let bit = match () {
        () if owner == uid => 0o100,
        () if group == gid => 0o010,
        () => 0o001,
    };
    mode & bit != 0
}

/// Puts the program in a session of its own, so that neither a terminal's signals nor the end of the daemon's
/// session reach it.
#[expect(unsafe_code, reason = "std has no stable way to call setsid between fork and exec")]
fn own_session(command: &mut std::process::Command) {
    // SAFETY: the closure runs in the forked child and makes one system call, without allocating or locking.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_class_of_a_mode_decides() {
        assert!(passable(0o711, 0, 0, 100, 100));
        assert!(!passable(0o700, 0, 0, 100, 100));
        assert!(passable(0o710, 0, 100, 100, 100));
        assert!(!passable(0o701, 0, 100, 100, 100), "its group is refused although others are not");
        assert!(passable(0o700, 100, 0, 100, 100));
    }

    #[test]
    fn libraries_of_a_relocated_installation_are_beside_its_programs() {
        assert_eq!(library_dir(Path::new("/usr/lib/postgresql/15/bin")), None);
        assert_eq!(library_dir(Path::new("/nowhere/18/bin")), None);
    }
}
