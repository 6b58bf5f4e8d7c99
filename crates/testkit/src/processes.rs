//! Processes as `/proc` shows them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One process that works in a folder.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Where it works. Of a removed folder the name it had.
    pub cwd: PathBuf,
    /// Its arguments, separated by spaces; a PostgreSQL process shows here what it does.
    pub cmdline: String,
}

/// Every process whose working directory lies in a folder. One that has ended and was not waited for has none.
pub fn all_in(folder: &Path) -> Vec<Process> {
    pids().filter_map(Process::read).filter(|process| process.cwd.starts_with(folder)).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl Process {
    /// What `/proc` says of a process; nothing when it has ended.
    fn read(pid: i32) -> Option<Self> {
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let cwd = PathBuf::from(cwd.to_string_lossy().trim_end_matches(" (deleted)"));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold spaces; after it come the state and the parent.
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { pid, parent, cwd, cmdline: cmdline(pid) })
    }
}

/// Every other process whose environment names a folder, as that of a client program does which was given its socket.
pub fn all_given(folder: &Path) -> Vec<Process> {
    let folder = folder.to_string_lossy();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    pids()
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            String::from_utf8_lossy(&environment).contains(&*folder).then(|| Process::read(pid))?
        })
        .collect()
}

/// The first processes of the servers in a folder: those whose parent is not one of them.
pub fn postmasters_in(folder: &Path) -> Vec<Process> {
    let all = all_in(folder);
    let pids: BTreeSet<i32> = all.iter().map(|process| process.pid).collect();
    all.into_iter().filter(|process| !pids.contains(&process.parent)).collect()
}

/// The arguments of a process, separated by spaces.
pub fn cmdline(pid: i32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text).replace('\0', " ").trim().to_owned()
}

/// Ends every process that works in a folder or was given it: servers without waiting for anything, but so that they
/// let go of their shared memory, which SIGKILL would leave behind.
pub fn end_all_in(folder: &Path) {
    for process in postmasters_in(folder) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGQUIT);
    }
    for _ in 0..200 {
        if all_in(folder).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_all_in(folder);
}

/// Ends every process that works in a folder or was given it, at once, and waits until they are gone.
pub fn kill_all_in(folder: &Path) {
    for _ in 0..500 {
        let left = [all_in(folder), all_given(folder)].concat();
        if left.is_empty() {
            return;
        }
        for process in left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("processes in {} outlived SIGKILL", folder.display());
}

/// Ports that are listened on, with the user ids of the listeners.
pub fn listening_ports() -> BTreeMap<u16, u32> {
    let mut ports = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, uid, ..] = fields[..] else { continue };
            let port = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            if let (Some(port), "0A", Ok(uid)) = (port, state, uid.parse()) {
                ports.insert(port, uid);
            }
        }
    }
    ports
}
