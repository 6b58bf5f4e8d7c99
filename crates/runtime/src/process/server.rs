//! One server's process: started so that it outlives the daemon, recognised again by what `/proc` says, stopped cleanly.

use super::account::Account;
use super::prepared::major_in;
use crate::RuntimeError;
use crate::spec::{Engine, Observed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::time::Instant;

/// Between two looks at a server that is starting or stopping.
const POLL: Duration = Duration::from_millis(3);

/// Where one server's files are.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

/// What `postmaster.pid` says of a live server; nothing of a dead one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    pub(super) ready: bool,
}

/// The server that runs on this data directory, if one does. A file that a dead server left behind, or whose process
/// id now belongs to another program, counts for nothing: the process must work in this very directory.
pub(super) fn postmaster(data: &Path) -> Option<Postmaster> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let status = lines.nth(6).unwrap_or_default().trim();
    works_in(pid, data).then_some(Postmaster { pid, ready: status == "ready" })
}

/// Whether a process is a PostgreSQL program whose working directory is this one.
fn works_in(pid: i32, data: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let is_postgres = fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.trim().starts_with("postgres"));
    let (Ok(here), Ok(there)) = (fs::metadata(proc.join("cwd")), fs::metadata(data)) else { return false };
    is_postgres && (here.dev(), here.ino()) == (there.dev(), there.ino()) && !is_zombie(&proc)
}

fn is_zombie(proc: &Path) -> bool {
    fs::read_to_string(proc.join("stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Every PostgreSQL process that works in this directory, children whose postmaster is gone included.
pub(super) fn processes_in(data: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| works_in(*pid, data)).collect()
}

/// What is seen of a server.
pub(super) fn observe(data: &Path) -> Observed {
    match postmaster(data) {
        Some(Postmaster { pid, ready }) => {
            let pid = u32::try_from(pid).ok();
            if ready { Observed::Running { pid } } else { Observed::Starting { pid } }
        }
        None if data.join("PG_VERSION").exists() => Observed::Stopped,
        None => Observed::Missing,
    }
}

/// Starts a server unless it runs, and waits until it accepts connections.
pub(super) async fn start(
    engine: &Engine,
    account: &Account,
    paths: &Paths,
    port: u16,
    within: Duration,
) -> Result<(), RuntimeError> {
    check_data(engine, account, &paths.data)?;
    let deadline = Instant::now() + within;
    if postmaster(&paths.data).is_none() {
        // Children of a killed postmaster hold its shared memory for a moment; a new one refuses to start until then.
        end_strays(&paths.data).await?;
        spawn(engine, account, paths)?;
        wait_for_pid_file(paths, port, deadline).await?;
    }
    loop {
        match postmaster(&paths.data) {
            Some(Postmaster { ready: true, .. }) => return Ok(()),
            Some(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Some(_) => {
                let reason = format!("it does not accept connections after {} s", within.as_secs());
                return Err(RuntimeError::ServerFailed { reason, log: super::logs::last_lines(&paths.log) });
            }
            None => return Err(failure(paths, port)),
        }
    }
}

/// Waits until the server has written its own pid file, or has ended without one.
async fn wait_for_pid_file(paths: &Paths, port: u16, deadline: Instant) -> Result<(), RuntimeError> {
    while postmaster(&paths.data).is_none() {
        let ended = processes_in_start_log(paths);
        if ended || Instant::now() >= deadline {
            return Err(failure(paths, port));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Whether the process that [`spawn`] started last has ended. It notes its id beside the start log.
fn processes_in_start_log(paths: &Paths) -> bool {
    let Ok(text) = fs::read_to_string(paths.log.join("start.pid")) else { return false };
    let Ok(pid) = text.trim().parse::<i32>() else { return false };
    let proc = PathBuf::from(format!("/proc/{pid}"));
    !proc.exists() || is_zombie(&proc)
}

fn check_data(engine: &Engine, account: &Account, data: &Path) -> Result<(), RuntimeError> {
    let wrong = |detail: String| RuntimeError::NotOurs { path: data.to_owned(), detail };
    let found = fs::metadata(data).map_err(RuntimeError::io("look at", data))?;
    if found.uid() != account.uid {
        return Err(wrong(format!("it belongs to user id {}, not to '{}'", found.uid(), account.name)));
    }
    match major_in(data) {
        Some(major) if major == engine.major => Ok(()),
        Some(major) => Err(wrong(format!("it holds data of PostgreSQL {major}, not {}", engine.major))),
        None => Err(wrong("it is no PostgreSQL data directory".to_owned())),
    }
}

fn spawn(engine: &Engine, account: &Account, paths: &Paths) -> Result<(), RuntimeError> {
    let program = engine.bin_dir.join("postgres");
    let failed = || RuntimeError::io("start", &program);
    let log_path = paths.log.join("start.log");
    let open = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&log_path);
    let log = open.map_err(RuntimeError::io("open", &log_path))?;
    account.own(&log_path)?;
    let mut command = Command::new(&program);
    command.arg("-D").arg(&paths.data);
    super::environment(&mut command, engine);
    account.apply(&mut command);
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed())?).stderr(log);
    in_own_session(&mut command);
    let mut child = command.spawn().map_err(failed())?;
    let pid = child.id().unwrap_or_default();
    fs::write(paths.log.join("start.pid"), pid.to_string()).map_err(RuntimeError::io("write", &paths.log))?;
    // Takes the zombie away; the server itself outlives this task and this process.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// A session of its own: neither the end of the daemon nor a terminal's Ctrl-C or hang-up reaches the server.
#[expect(unsafe_code, reason = "setsid has to be called in the child; std has no safe form of it")]
fn in_own_session(command: &mut Command) {
    // SAFETY: setsid and umask are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// Why a server ended during its start.
fn failure(paths: &Paths, port: u16) -> RuntimeError {
    let log = super::logs::last_lines(&paths.log);
    let has = |text: &str| log.iter().any(|line| line.contains(text));
    if has("Address already in use") {
        return RuntimeError::PortTaken { port };
    }
    if has("No space left on device") {
        return RuntimeError::DiskFull { path: paths.data.clone() };
    }
    let reason = log.iter().rev().find(|line| line.contains("FATAL:") || line.contains("PANIC:"));
    let reason = reason.or(log.last()).cloned().unwrap_or_else(|| "it ended without a word".to_owned());
    RuntimeError::ServerFailed { reason, log }
}

/// Stops a server: cleanly, then without waiting for anything, then by force. No process is left afterwards.
pub(super) async fn stop(data: &Path, grace: Duration) -> Result<(), RuntimeError> {
    for (signal, patience) in
        [(Signal::SIGINT, grace), (Signal::SIGQUIT, Duration::from_secs(5)), (Signal::SIGKILL, Duration::from_secs(5))]
    {
        let Some(Postmaster { pid, .. }) = postmaster(data) else { break };
        if signal != Signal::SIGINT {
            tracing::warn!(pid, %signal, data = %data.display(), "the server does not stop; using more force");
        }
        send(pid, signal, data)?;
        let deadline = Instant::now() + patience;
        while works_in(pid, data) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
    end_strays(data).await
}

/// Ends processes that a postmaster has left behind.
pub(super) async fn end_strays(data: &Path) -> Result<(), RuntimeError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    // They notice their postmaster's end by themselves, mostly at once.
    let patience = Instant::now() + Duration::from_millis(500);
    loop {
        let strays = processes_in(data);
        if strays.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let reason = format!("processes of an earlier server do not end: {strays:?}");
            return Err(RuntimeError::ServerFailed { reason, log: Vec::new() });
        }
        if Instant::now() >= patience {
            for pid in strays {
                send(pid, Signal::SIGKILL, data)?;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn send(pid: i32, signal: Signal, data: &Path) -> Result<(), RuntimeError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(RuntimeError::io("signal the server of", data)(error.into())),
    }
}

/// Waits until the server has ended; at once when none runs. Sleeps on a descriptor of the process, so that waiting
/// costs nothing and works for a server that another daemon started.
pub(super) async fn exited(data: &Path) -> Result<(), RuntimeError> {
    let Some(Postmaster { pid, .. }) = postmaster(data) else { return Ok(()) };
    let failed = || RuntimeError::io("watch the server of", data);
    let Some(descriptor) = open_pid(pid).map_err(failed())? else { return Ok(()) };
    if !works_in(pid, data) {
        return Ok(());
    }
    let watch = watch(descriptor).map_err(failed())?;
    watch.readable().await.map(drop).map_err(failed())
}

#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that its safe calls cannot check")]
fn watch(descriptor: OwnedFd) -> std::io::Result<AsyncFd<PidFd>> {
    // SAFETY: PidFd owns its descriptor, always gives out that one, and closes it only when it is dropped.
    unsafe { AsyncFd::register_with_interest(PidFd(descriptor), Interest::READABLE) }.map_err(std::io::Error::from)
}

struct PidFd(OwnedFd);

impl std::os::fd::AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_pid(pid: i32) -> std::io::Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(std::io::Error::from(error)),
    }
}

/// What the operating system says when a file is not there is no error here.
pub(super) fn gone_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
