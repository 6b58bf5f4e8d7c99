//! Which PostgreSQL installations this machine has.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::spec::Engine;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The majors we know how to run.
pub(crate) const MAJORS: std::ops::RangeInclusive<u16> = 13..=18;
/// Where Debian's packages put engines.
const SYSTEM_DIR: &str = "/usr/lib/postgresql";

/// Finds engines, and remembers what each said its version is for as long as its file does not change.
#[derive(Debug)]
pub(crate) struct Engines {
    /// Folders whose sub-folders hold engines, that somebody chose; these win.
    chosen: Vec<PathBuf>,
    /// The search path.
    path: Option<OsString>,
    seen: Mutex<HashMap<PathBuf, Seen>>,
}

/// When a program was last changed, and what it said then; nothing when it said nothing of use.
type Seen = (Option<SystemTime>, Option<Version>);

/// A version as PostgreSQL's programs print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u16,
    pub(crate) full: String,
}

impl Engines {
    pub(crate) fn new(chosen: Vec<PathBuf>, path: Option<OsString>) -> Self {
        Self { chosen, path, seen: Mutex::default() }
    }

    /// One engine per major, newest major first. Chosen folders win over the system's, these over the search
    /// path; within one kind the newer version wins.
    pub(crate) fn find(&self) -> Vec<Engine> {
        let mut best: BTreeMap<u16, Engine> = BTreeMap::new();
        for tier in self.tiers() {
            let mut found: BTreeMap<u16, Engine> = BTreeMap::new();
            for bin_dir in tier {
                let Some(engine) = self.look(&bin_dir) else { continue };
                match found.get(&engine.major) {
                    Some(other) if rank(&other.version) >= rank(&engine.version) => {}
                    _ => {
                        found.insert(engine.major, engine);
                    }
                }
            }
            for (major, engine) in found {
                best.entry(major).or_insert(engine);
            }
        }
        best.into_values().rev().collect()
    }

    /// The engine of one major.
    pub(crate) fn get(&self, major: u16) -> Result<Engine, RuntimeError> {
        let engines = self.find();
        let found = engines.iter().map(|engine| engine.major).collect();
        engines.into_iter().find(|engine| engine.major == major).ok_or(RuntimeError::EngineMissing { major, found })
    }

    fn tiers(&self) -> [Vec<PathBuf>; 3] {
        let below = |dir: &Path| -> Vec<PathBuf> {
            let mut dirs: Vec<PathBuf> =
                fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            dirs.retain(|dir| !dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
            dirs.sort();
            dirs.into_iter().map(|dir| dir.join("bin")).collect()
        };
        let path = self.path.as_ref().map(|path| std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect());
        [
            self.chosen.iter().flat_map(|dir| below(dir)).collect(),
            below(Path::new(SYSTEM_DIR)),
            path.unwrap_or_default(),
        ]
    }

    /// The engine in one folder, if there is a whole one.
    pub(crate) fn look(&self, bin_dir: &Path) -> Option<Engine> {
        // Through links, so that the programs beside the real `postgres` are found.
        let postgres = fs::canonicalize(bin_dir.join("postgres")).ok()?;
        let bin_dir = postgres.parent()?.to_owned();
        if !bin_dir.join("initdb").is_file() {
            return None;
        }
        let changed = fs::metadata(&postgres).ok()?.modified().ok();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let version = match seen.get(&postgres) {
            Some((at, version)) if *at == changed => version.clone(),
            _ => {
                let version = ask_version(&postgres);
                seen.insert(postgres, (changed, version.clone()));
                version
            }
        };
        let version = version.filter(|version| MAJORS.contains(&version.major))?;
        Some(Engine { major: version.major, version: version.full, bin_dir })
    }
}

/// Runs `postgres -V`.
fn ask_version(postgres: &Path) -> Option<Version> {
    let mut command = std::process::Command::new(postgres);
    command.arg("-V").env_clear().env("LC_ALL", "C").stdin(std::process::Stdio::null());
    if let Some(lib) = Account::library_dir_of(postgres) {
        command.env("LD_LIBRARY_PATH", lib);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
pub(crate) fn parse_version(output: &str) -> Option<Version> {
    let rest = output.trim().strip_prefix("postgres (PostgreSQL) ")?;
    let full = rest.split_whitespace().next()?;
    // Becomes a folder's name.
    if !full.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return None;
    }
    let digits = full.find(|c: char| !c.is_ascii_digit()).unwrap_or(full.len());
    Some(Version { major: full[..digits].parse().ok()?, full: full.to_owned() })
}

/// Orders `15.9` before `15.18`, and a beta before any release.
fn rank(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next()) {
        (Some(major), Some(minor)) => (major, minor.unwrap_or(0) + 1),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_builds_print() {
        let full = |text: &str| parse_version(text).map(|version| (version.major, version.full));
        assert_eq!(full("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, "15.18".to_owned())));
        assert_eq!(full("postgres (PostgreSQL) 18.6\n"), Some((18, "18.6".to_owned())));
        assert_eq!(full("postgres (PostgreSQL) 18beta1"), Some((18, "18beta1".to_owned())));
        assert_eq!(full("postgres (PostgreSQL) 9.6.24"), Some((9, "9.6.24".to_owned())));
        for bad in ["", "postgres", "psql (PostgreSQL) 15.1", "postgres (PostgreSQL) ../x", "postgres (PostgreSQL) x"] {
            assert_eq!(full(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn newer_minors_rank_higher() {
        assert!(rank("15.18") > rank("15.9"));
        assert!(rank("18.0") > rank("18beta2"));
    }

    #[test]
    fn an_empty_machine_has_no_engine() {
        let engines = Engines::new(vec![PathBuf::from("/nonexistent")], None);
        assert!(matches!(engines.get(12), Err(RuntimeError::EngineMissing { major: 12, .. })));
    }
}
