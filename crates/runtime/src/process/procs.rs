//! Finding and ending a server's processes, from its pid file and /proc alone.
//!
//! A process id by itself proves nothing: it may have been given to another program since. A server is ours when
//! its program is `postgres` and its working directory is the data directory, and it is signalled through a
//! pidfd that was opened before that was checked.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What `postmaster.pid` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: u32,
    pub(crate) ready: bool,
}

/// A server's first process.
#[derive(Debug)]
pub(crate) struct Postmaster {
    pub(crate) pid: u32,
    /// Whether it accepts connections.
    pub(crate) ready: bool,
    handle: Handle,
}

/// A process that cannot be mistaken for a later one with the same id, where the kernel has that (5.3).
#[derive(Debug)]
enum Handle {
    Fd(OwnedFd),
    Pid(Pid),
}

/// Reads `postmaster.pid`. A single-user server writes its id negated: that one accepts nobody.
pub(crate) fn parse_pid_file(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid: i64 = lines.next()?.trim().parse().ok()?;
    let pid = u32::try_from(pid.abs()).ok().filter(|pid| *pid > 1)?;
    Some(PidFile { pid, ready: lines.nth(6).is_some_and(|status| status.trim() == "ready") })
}

/// The pid file of a data directory; nothing when it is not there or only half written.
pub(crate) fn pid_file(data: &Path) -> Option<PidFile> {
    parse_pid_file(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
}

/// The running server of a data directory.
pub(crate) fn postmaster(data: &Path) -> Option<Postmaster> {
    let file = pid_file(data)?;
    let handle = open(file.pid)?;
    is_server_of(file.pid, data).then_some(Postmaster { pid: file.pid, ready: file.ready, handle })
}

impl Postmaster {
    pub(crate) fn signal(&self, signal: Signal) {
        self.handle.signal(signal);
    }

    /// Waits for its end.
    pub(crate) async fn ended(self, data: &Path) {
        if let Handle::Fd(fd) = self.handle
            && let Some(fd) = watch(fd)
            && fd.readable().await.is_ok()
        {
            return;
        }
        while is_server_of(self.pid, data) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Registers a pidfd, which becomes readable when its process ends.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn watch(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: the value is an owned descriptor; it stays the same one, and open, for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
}

impl Handle {
    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile, which is what signals here are for.
        match self {
            Self::Fd(fd) => pidfd_send_signal(fd, signal).ok(),
            Self::Pid(pid) => rustix::process::kill_process(*pid, signal).ok(),
        };
    }
}

fn open(pid: u32) -> Option<Handle> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Some(Handle::Fd(fd)),
        Err(Errno::SRCH) => None,
        Err(_) => Some(Handle::Pid(pid)),
    }
}

/// Whether this process is the server of that data directory.
pub(crate) fn is_server_of(pid: u32, data: &Path) -> bool {
    match works_in(pid, data) {
        Ok(inside) => inside && runs_postgres(pid),
        // Root without CAP_SYS_PTRACE (a container) may not look at other users' directories, but at their
        // arguments: we start servers as `postgres -D DATA`.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments_name(&arguments, data)
        }
        Err(_) => false,
    }
}

/// Every process that works in the data directory: a server, its children, and children it left behind.
pub(crate) fn all_in(data: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut denied = false;
    let mut found: Vec<u32> = Vec::new();
    for pid in pids {
        match works_in(pid, data) {
            Ok(true) if runs_postgres(pid) => found.push(pid),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = true,
            _ => {}
        }
    }
    if denied && nix::unistd::geteuid().is_root() { all_in_as_owner(data) } else { found }
}

/// As [`all_in`], seen by the user whose data it is. Root in a container often lacks CAP_SYS_PTRACE and may not
/// look at other users' processes, while these may look at their own.
fn all_in_as_owner(data: &Path) -> Vec<u32> {
    const SCRIPT: &str = r#"for p in /proc/[0-9]*; do
        [ "$p/cwd" -ef "$0" ] && case "$(readlink "$p/exe")" in */postgres*) echo "${p#/proc/}" ;; esac
    done"#;
    let Ok(owner) = fs::metadata(data) else { return Vec::new() };
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .arg(data)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .uid(owner.uid())
        .gid(owner.gid())
        .output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills the processes that are left in a data directory, giving them `grace` to end by themselves: the logger
/// ends only when it has written everything.
pub(crate) async fn clear_stragglers(data: &Path, grace: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(4);
    const LIMIT: Duration = Duration::from_secs(10);
    let mut waited = Duration::ZERO;
    loop {
        let owned = data.to_owned();
        let left = tokio::task::spawn_blocking(move || all_in(&owned)).await.unwrap_or_default();
        if left.is_empty() {
            return true;
        }
        if waited >= LIMIT {
            return false;
        }
        if waited >= grace {
            for pid in left {
                let Some(handle) = open(pid) else { continue };
                let inside = works_in(pid, data);
                // Where we may not look, its owner has just done so.
                if inside.unwrap_or_else(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                    handle.signal(Signal::KILL);
                }
            }
        }
        tokio::time::sleep(STEP).await;
        waited += STEP;
    }
}

/// Data directories below `root` that a process works in, deleted ones too, as the kernel names them.
pub(crate) fn working_dirs(root: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let dirs = entries.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
    dirs.filter(|dir| dir.starts_with(root)).collect()
}

/// Compared by what it is, not by name, so that links and renames on the way do not matter.
fn works_in(pid: u32, data: &Path) -> io::Result<bool> {
    let cwd = fs::metadata(format!("/proc/{pid}/cwd"))?;
    let data = fs::metadata(data)?;
    Ok((cwd.dev(), cwd.ino()) == (data.dev(), data.ino()))
}

/// Whether the process runs a program called `postgres`, also one that an upgrade has replaced since.
fn runs_postgres(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
        let exe = exe.as_os_str().as_bytes();
        let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
        exe.ends_with(b"/postgres")
    })
}

/// Whether an argument list is that of a server we started for this data directory.
fn arguments_name(arguments: &[u8], data: &Path) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.next().is_some_and(|program| program.ends_with(b"/postgres"))
        && arguments.next() == Some(b"-D")
        && arguments.next() == Some(data.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_whole_and_half_written() {
        let whole = "4242\n/d\n1700000000\n5433\n/run\n127.0.0.1\n  1 2\nready   \n";
        assert_eq!(parse_pid_file(whole), Some(PidFile { pid: 4242, ready: true }));
        assert_eq!(parse_pid_file(&whole.replace("ready", "starting")), Some(PidFile { pid: 4242, ready: false }));
        assert_eq!(parse_pid_file(&whole.replace("ready   ", "standby ")), Some(PidFile { pid: 4242, ready: false }));
        assert_eq!(parse_pid_file("4242\n/d\n"), Some(PidFile { pid: 4242, ready: false }));
        assert_eq!(parse_pid_file("-4242\n"), Some(PidFile { pid: 4242, ready: false }));
        for bad in ["", "\n", "x\n", "0\n", "1\n", "99999999999999\n"] {
            assert_eq!(parse_pid_file(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn arguments_tell_a_server_of_ours() {
        let data = Path::new("/d/data");
        assert!(arguments_name(b"/usr/lib/postgresql/15/bin/postgres\0-D\0/d/data\0", data));
        assert!(!arguments_name(b"/usr/bin/postgres\0-D\0/d/data2\0", data));
        assert!(!arguments_name(b"/bin/cat\0-D\0/d/data\0", data));
        assert!(!arguments_name(b"", data));
    }

    #[test]
    fn a_live_process_that_is_no_server_is_not_one() {
        assert!(!is_server_of(std::process::id(), Path::new("/")));
        assert!(!is_server_of(u32::MAX, Path::new("/")));
    }
}
