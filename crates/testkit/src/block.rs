//! A place of its own for each test: a block of ports and a folder, held by a lock on a file.
//!
//! Tests run as processes beside each other, so a lock that ends with its process tells which blocks are free, and
//! whoever takes a block first clears away what a test that was killed has left in it.

use crate::processes;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Below the ports that the system gives to outgoing connections.
const FIRST_PORT: u16 = 20_000;
/// Ports in a block: the first is the daemon's, the others are its databases'.
const BLOCK: u16 = 60;
/// How many blocks there are.
const BLOCKS: u16 = 200;

/// Held for as long as a test needs it.
#[derive(Debug)]
pub(crate) struct Block {
    /// Locked while the block is ours.
    _lock: File,
    /// Ours alone; empty at first. Everybody may pass through it, as the servers' user has to.
    pub(crate) folder: PathBuf,
    /// Where the daemon listens.
    pub(crate) http_port: u16,
    /// The first and last port for databases.
    pub(crate) ports: (u16, u16),
}

impl Block {
    /// Takes the first free block.
    pub(crate) fn take() -> Self {
        let uid = nix::unistd::geteuid();
        let locks = std::env::temp_dir().join(format!("pgdb-testkit-{uid}"));
        fs::create_dir_all(&locks).expect("make the folder for lock files");
        // Users do not see each other's locks, so each begins elsewhere.
        let start = u16::try_from(uid.as_raw() * 61 % u32::from(BLOCKS)).unwrap_or(0);
        for number in (0..BLOCKS).map(|number| (start + number) % BLOCKS) {
            let path = locks.join(format!("{number}.lock"));
            let lock = File::options().create(true).truncate(false).write(true).open(path).expect("open a lock file");
            if lock.try_lock().is_err() {
                continue;
            }
            let folder = memory().join(format!("pgdb-test-{uid}-{number:03}"));
            clear(&folder);
            let first = FIRST_PORT + number * BLOCK;
            if (first..first + BLOCK).any(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()) {
                continue;
            }
            fs::create_dir(&folder).expect("make the test's folder");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("open the test's folder to servers");
            return Self { _lock: lock, folder, http_port: first, ports: (first + 1, first + BLOCK - 1) };
        }
        panic!("all {BLOCKS} blocks of ports are taken");
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        clear(&self.folder);
    }
}

/// The file system in memory if there is one: these tests are about what happens, not about how fast a disk is.
pub(crate) fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// Ends what still runs in a folder and removes it.
fn clear(folder: &Path) {
    processes::end_all_in(folder);
    // A test may have mounted a small file system in it, and been killed.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(mount).starts_with(folder) {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("{} could not be removed: {error}", folder.display());
        }
        _ => {}
    }
}
