//! Finding PostgreSQL installations.

use crate::RuntimeError;
use crate::spec::Engine;
use pgdb_core::instance::{NEWEST_MAJOR, OLDEST_MAJOR};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use tokio::process::Command;

/// Where the system's packages put their majors.
const SYSTEM: &str = "/usr/lib/postgresql";

/// Looks for installations, and remembers the version of each program it asked.
#[derive(Debug)]
pub(super) struct Engines {
    /// Folders that hold `MAJOR/bin`, the preferred ones first.
    folders: Vec<PathBuf>,
    path: Option<OsString>,
    versions: Mutex<HashMap<PathBuf, (SystemTime, Option<String>)>>,
}

impl Engines {
    pub(super) fn new(named: Option<PathBuf>, own: PathBuf, path: Option<OsString>) -> Self {
        let folders = named.into_iter().chain([own, PathBuf::from(SYSTEM)]).collect();
        Self { folders, path, versions: Mutex::default() }
    }

    /// One installation per major, newest first.
    pub(super) async fn list(&self) -> Vec<Engine> {
        let mut found = BTreeMap::new();
        for bin_dir in self.candidates() {
            let Some(version) = self.version(&bin_dir.join("postgres")).await else { continue };
            let Some(major) = major_of(&version).filter(|major| (OLDEST_MAJOR..=NEWEST_MAJOR).contains(major)) else {
                continue;
            };
            found.entry(major).or_insert(Engine { major, version, bin_dir });
        }
        found.into_values().rev().collect()
    }

    /// The installation of one major.
    pub(super) async fn get(&self, major: u16) -> Result<Engine, RuntimeError> {
        let engines = self.list().await;
        let found = engines.iter().map(|engine| engine.major).collect();
        engines.into_iter().find(|engine| engine.major == major).ok_or(RuntimeError::EngineMissing { major, found })
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut bins: Vec<PathBuf> = entries.flatten().map(|entry| entry.path().join("bin")).collect();
            bins.sort();
            candidates.extend(bins);
        }
        for folder in self.path.iter().flat_map(std::env::split_paths) {
            // A link on the PATH leads to the folder that holds the server's other programs.
            if let Ok(program) = folder.join("postgres").canonicalize() {
                candidates.extend(program.parent().map(Path::to_owned));
            }
        }
        candidates.retain(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file());
        candidates
    }

    async fn version(&self, program: &Path) -> Option<String> {
        let modified = std::fs::metadata(program).and_then(|found| found.modified()).ok()?;
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(program).cloned();
        if let Some((at, version)) = known.filter(|(at, _)| *at == modified) {
            let _ = at;
            return version;
        }
        let version = ask_version(program).await;
        let entry = (modified, version.clone());
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(program.to_owned(), entry);
        version
    }
}

/// What `postgres -V` says, such as `16.15`.
pub(super) async fn ask_version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("-V").env("LC_ALL", "C").output().await.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` gives `15.18`.
fn parse_version(line: &str) -> Option<String> {
    let rest = line.split_once("(PostgreSQL) ")?.1;
    let version = rest.split_whitespace().next()?;
    major_of(version).map(|_| version.to_owned())
}

/// The major of `16.15`, `18beta1` or `17`.
pub(super) fn major_of(version: &str) -> Option<u16> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_distributions_write_them() {
        let read = |line| parse_version(line).and_then(|version| Some((major_of(&version)?, version)));
        assert_eq!(read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, "15.18".to_owned())));
        assert_eq!(read("postgres (PostgreSQL) 18beta1\n"), Some((18, "18beta1".to_owned())));
        assert_eq!(read("something else"), None);
    }
}
