//! A place for an engine, which tests take one after the other, and the processes that need root.

use super::Kind;
use crate::block::memory;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What runs as root.
const SCRIPT: &str = include_str!("engine.sh");
/// How many engines of a kind there may be at once.
const SLOTS: u32 = 16;
/// What an engine with its images and some databases needs, in bytes.
const ROOM: u64 = 2 << 30;

/// Held by a lock, which ends with the process.
#[derive(Debug)]
pub(super) struct Slot {
    _lock: File,
    kind: Kind,
    /// The bridge's name too, which has 15 bytes at most.
    name: String,
    /// Of the lock, and of the one that who watches the engine holds.
    locks: [PathBuf; 2],
    /// All that the engine keeps.
    pub(super) folder: PathBuf,
}

impl Slot {
    /// Takes the first free place, and with it the engine that another test has left in it, if one has.
    pub(super) fn take(kind: Kind) -> Self {
        let uid = nix::unistd::geteuid();
        let locks = std::env::temp_dir().join(format!("pgdb-testkit-{uid}")).join("engines");
        fs::create_dir_all(&locks).expect("make the folder for lock files");
        for number in 0..SLOTS {
            let letter = if kind == Kind::Docker { 'd' } else { 'p' };
            let name = format!("{letter}g{uid}-{number}");
            let paths = ["lock", "watched"].map(|end| locks.join(format!("{name}.{end}")));
            let lock = open(&paths[0]);
            if lock.try_lock().is_err() {
                continue;
            }
            let folder = roomy().join(format!("pgdb-engine-{name}"));
            return Self { _lock: lock, kind, name, locks: paths, folder };
        }
        panic!("all {SLOTS} places for engines are taken");
    }

    /// Where the engine listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Whether somebody sees to it that the engine ends.
    pub(super) fn is_watched(&self) -> bool {
        open(&self.locks[1]).try_lock().is_err()
    }

    /// Starts who ends the engine after the test run, unless somebody does.
    pub(super) fn watch(&self) {
        if self.is_watched() {
            return;
        }
        let mut command = self.command("watch");
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("start the process that watches the engine");
        let mut said = String::new();
        let stdout = child.stdout.take().expect("its output was asked for");
        BufReader::new(stdout).read_line(&mut said).expect("read what it says");
        assert_eq!(said, "watching\n", "nobody watches the engine");
        // It outlives this process, as it should.
        drop(child);
    }

    /// Does one thing with the engine's processes, and panics with what was said if it fails.
    pub(super) fn run(&self, action: &str) {
        if let Err(said) = self.attempt(action) {
            panic!("the engine's {action} failed: {said}");
        }
    }

    /// The same, or what was said.
    pub(super) fn attempt(&self, action: &str) -> Result<(), String> {
        let output = self.command(action).stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn command(&self, action: &str) -> Command {
        // It ends after the whole test run if there is one, else after this process.
        let in_a_run = std::env::var_os("NEXTEST").is_some();
        let owner = if in_a_run { std::os::unix::process::parent_id() } else { std::process::id() };
        let variables = [
            ("ENGINE", if self.kind == Kind::Docker { "docker".into() } else { "podman".into() }),
            ("FOLDER", self.folder.display().to_string()),
            ("NAME", self.name.clone()),
            ("OWNER", owner.to_string()),
            ("LOCK", self.locks[0].display().to_string()),
            ("WATCHED", self.locks[1].display().to_string()),
        ];
        let variables = variables.map(|(name, value)| format!("{name}={value}"));
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new("setsid")
        } else {
            // Engines need root. It must not ask for a password, for nobody would see that.
            let mut sudo = Command::new("setsid");
            sudo.args(["sudo", "--non-interactive"]);
            sudo
        };
        command.arg("env").args(variables).args(["bash", "-c", SCRIPT, "engine.sh", action]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        command
    }
}

fn open(path: &Path) -> File {
    File::options().create(true).truncate(false).write(true).open(path).expect("open a lock file")
}

/// In memory if there is room, for PostgreSQL's first start writes much and waits for the disk each time.
fn roomy() -> PathBuf {
    let memory = memory();
    let room = nix::sys::statvfs::statvfs(&memory).map(|stat| stat.blocks_available() * stat.fragment_size());
    if room.is_ok_and(|room| room >= ROOM) { memory } else { std::env::temp_dir() }
}
