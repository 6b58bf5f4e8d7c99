//! What this machine remembers of a server that is being made or was made: a folder for each name, locked while a command
//! is at work on it.

use crate::error::Error;
use pgdb_core::infra::name::InfraName;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How far `init` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has begun and not ended, whatever became of it.
    Making,
    /// Everything was as it was wanted.
    Ready,
}

/// Written down before the first thing is made. What there is says the provider; this says which of it is this run's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The label that this run puts on what it makes.
    pub run: String,
    /// Where it is made.
    pub endpoint: String,
    /// How far it is.
    pub state: State,
    /// The server's address, once it is known.
    pub ip: Option<String>,
}

/// The folder of one server, ours alone while this lives.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes the folder of a server below the folder of all of them. Fails if another command has it.
    pub fn take(all: &Path, name: &InfraName) -> Result<Self, Error> {
        let folder = all.join(name.as_str());
        let explain = || format!("use the folder {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(Error::file(explain()))?;
        let lock = File::open(&folder).map_err(Error::file(explain()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Error::Usage(format!("another pgdb command is at work on '{name}'; wait until it has ended")))
            }
            Err(fs::TryLockError::Error(error)) => Err(Error::file(explain())(error)),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("journal.json")
    }

    /// What was written down, if anything was.
    pub fn journal(&self) -> Result<Option<Journal>, Error> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(format!("read {}", path.display()))(error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::Usage(format!(
                "{} makes no sense ({error}); look with `pgdb infra list` what there is, then remove that file",
                path.display()
            ))
        })
    }

    /// Writes it down, so that it survives everything.
    pub fn write(&self, journal: &Journal) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(journal).unwrap_or_default();
        replace(&self.file(), &text)
    }

    /// Forgets the server.
    pub fn forget(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(Error::file(format!("remove {}", self.folder.display())))
    }
}

/// Replaces a file that only its owner may read, at once or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let making = path.with_extension("making");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&making, path)
    };
    write().map_err(Error::file(format!("write {}", path.display())))
}
