//! One daemon per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often, and how far apart, we look whether a dead daemon's lock is free at last.
const AFTERLIFE_LOOKS: u32 = 1000;
const LOOK: Duration = Duration::from_millis(5);

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
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(io_error(error)),
            }
            let mut text = String::new();
            file.rewind().map_err(io_error)?;
            // The holder may be the original pgdb, which writes no process id.
            let _ = file.read_to_string(&mut text);
            let pid = text.trim().parse::<u32>().ok();
            // A daemon that was killed while it started a program: until that runs, it has the lock as well.
            let killed = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
            if !killed || tries == AFTERLIFE_LOOKS {
                let holder = pid.map_or("pid unknown".to_owned(), |pid| format!("pid {pid}"));
                return Err(LockError::Held { holder, data_dir: data_dir.to_owned() });
            }
            tries += 1;
            std::thread::sleep(LOOK);
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

    #[test]
    fn a_dead_daemons_lock_is_waited_for() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        // As a program holds it that was just being started: the lock is held, and its holder's id is nobody's.
        let inherited = File::create(folder.path().join("registry.lock"))?;
        inherited.lock()?;
        let mut child = std::process::Command::new("true").spawn()?;
        child.wait()?;
        std::fs::write(folder.path().join("registry.lock"), child.id().to_string())?;
        let waiting = std::thread::spawn({
            let folder = folder.path().to_owned();
            move || DataDirLock::take(&folder).map(drop).map_err(|error| error.to_string())
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "it does not give up at once");
        drop(inherited);
        assert_eq!(waiting.join().map_err(|_| std::io::Error::other("panicked"))?, Ok(()));
        Ok(())
    }
}
