//! One daemon per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Held for the daemon's life; the operating system lets go of it even when the daemon is killed.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why the lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("another pgdb daemon ({holder}) already works on {}; stop it first, or give another --data-dir", data_dir.display())]
    Held {
        /// `pid N`, or that it is unknown.
        holder: String,
        /// The directory.
        data_dir: PathBuf,
    },
    /// The file could not be used.
    #[error("could not lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DataDirLock {
    /// Takes `registry.lock` and writes our process id into it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join("registry.lock");
        let io_error = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder may be the original pgdb, which writes no process id.
                let _ = file.read_to_string(&mut text);
                let holder = text.trim().parse::<u32>().map_or("pid unknown".to_owned(), |pid| format!("pid {pid}"));
                return Err(LockError::Held { holder, data_dir: data_dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_error(error)),
        }
        file.set_len(0).map_err(io_error)?;
        file.rewind().map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = DataDirLock::take(folder.path()).map_err(std::io::Error::other)?;
        let message = DataDirLock::take(folder.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
        drop(first);
        assert!(DataDirLock::take(folder.path()).is_ok());
        Ok(())
    }
}
