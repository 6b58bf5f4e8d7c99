//! Starting and stopping one server.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::files::{NO_FOLLOW, blocking, data_major, ensure_dir, ensure_owned_dir, names, remove_file};
use crate::process::layout::{Layout, Place};
use crate::process::logs;
use crate::process::procs::{self, Postmaster};
use crate::reasons::{LAST_LINES, reason};
use crate::spec::{Engine, Observed, ServerSpec};
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Stdio;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// How often a starting server is looked at. It takes 20 to 50 ms, which a caller waits for.
const POLL: Duration = Duration::from_millis(2);
/// How long children of a killed server may take to notice.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// How long a start is repeated when the remains of the last run are in its way.
const REMAINS: Duration = Duration::from_secs(5);

/// What the server of a place is seen to be.
pub(crate) fn observe(place: &Place) -> Result<Observed, RuntimeError> {
    if let Some(server) = procs::postmaster(&place.data) {
        let pid = Some(server.pid);
        return Ok(if server.ready { Observed::Running { pid, container: None } } else { Observed::Starting { pid } });
    }
    Ok(if crate::process::files::exists(&place.data)? { Observed::Stopped } else { Observed::Missing })
}

/// How one attempt ended.
enum Attempt {
    Ready,
    /// The remains of the last run are in the way.
    Remains(RuntimeError),
}

/// Starts the server unless it runs, and waits until it accepts connections.
pub(crate) async fn start(
    layout: &Layout,
    place: &Place,
    spec: &ServerSpec,
    engine: &Engine,
    account: &Account,
    limit: Duration,
) -> Result<(), RuntimeError> {
    let deadline = Instant::now() + limit;
    let remains_until = Instant::now() + REMAINS.min(limit);
    loop {
        match attempt(layout, place, spec, engine, account, deadline).await? {
            Attempt::Ready => return Ok(()),
            Attempt::Remains(error) if Instant::now() >= remains_until => return Err(error),
            Attempt::Remains(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn attempt(
    layout: &Layout,
    place: &Place,
    spec: &ServerSpec,
    engine: &Engine,
    account: &Account,
    deadline: Instant,
) -> Result<Attempt, RuntimeError> {
    if let Some(running) = find(place).await? {
        // Started by an earlier life of this daemon, perhaps a moment ago.
        return wait_adopted(place, running, deadline).await;
    }
    let here = place.clone();
    let crashed = blocking(move || crate::process::files::exists(&here.data.join("postmaster.pid"))).await?;
    if crashed && !procs::clear_stragglers(&place.data, STRAGGLERS).await {
        return Err(failed("processes of its last run cannot be ended", Vec::new()));
    }
    let (layout, here, its, owner) = (layout.clone(), place.clone(), spec.clone(), account.clone());
    let mark = blocking(move || make_ready(&layout, &here, &its, &owner)).await?;

    let program = engine.bin_dir.join("postgres");
    let mut command = account.command(&program, Some(engine));
    command.arg("-D").arg(&place.data).stdout(mark.stdout).stderr(mark.stderr);
    let mut child = command.spawn().map_err(RuntimeError::io("run", &program))?;
    let Some(pid) = child.id() else { return Err(failed("it ended at once", Vec::new())) };
    tracing::debug!(id = place.id, pid, "started a server");

    // Waits as long as it lives, so that no zombie is left; ends with the daemon, not the server.
    let (ended, mut end) = oneshot::channel();
    tokio::spawn(async move {
        ended.send(child.wait().await.ok()).ok();
    });
    loop {
        let data = place.data.clone();
        let file = blocking(move || Ok(procs::pid_file(&data))).await?;
        if file.is_some_and(|file| file.pid == pid && file.ready) {
            return Ok(Attempt::Ready);
        }
        match end.try_recv() {
            Ok(status) => {
                // Its logger ends a moment later, when it has written down why.
                procs::clear_stragglers(&place.data, Duration::from_secs(1)).await;
                let here = place.clone();
                let lines = blocking(move || logs::since(&here, &mark.position)).await?;
                tracing::debug!(id = place.id, ?status, "the server ended while starting");
                return explain(lines, spec, place);
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
            Err(oneshot::error::TryRecvError::Closed) => return Err(failed("it could not be watched", Vec::new())),
        }
        if Instant::now() >= deadline {
            return Err(not_ready(place).await);
        }
        sleep(POLL).await;
    }
}

async fn wait_adopted(place: &Place, running: Postmaster, deadline: Instant) -> Result<Attempt, RuntimeError> {
    let pid = running.pid;
    let mut running = Some(running);
    while let Some(server) = running {
        if server.ready {
            return Ok(Attempt::Ready);
        }
        if Instant::now() >= deadline {
            return Err(not_ready(place).await);
        }
        sleep(POLL).await;
        running = find(place).await?;
    }
    Ok(Attempt::Remains(failed(&format!("process {pid} ended while it was starting"), Vec::new())))
}

/// A server that recovers from a crash may need longer than we wait. It is left to it, and found later.
async fn not_ready(place: &Place) -> RuntimeError {
    let here = place.clone();
    let log = blocking(move || logs::last_lines(&here)).await.unwrap_or_default();
    failed("it does not accept connections yet; it goes on starting", log)
}

/// Where a start's own output begins.
struct Mark {
    stdout: Stdio,
    stderr: Stdio,
    position: logs::Position,
}

/// Checks everything that a start needs and clears what a crash left.
fn make_ready(layout: &Layout, place: &Place, spec: &ServerSpec, account: &Account) -> Result<Mark, RuntimeError> {
    match data_major(&place.data)? {
        None => return Err(failed(&format!("its data directory {} is missing", place.data.display()), Vec::new())),
        Some(major) if major != spec.major => {
            let detail = format!("it holds data of PostgreSQL {major}, not {}", spec.major);
            return Err(RuntimeError::NotOurs { path: place.data.clone(), detail });
        }
        Some(_) => {}
    }
    let owner = fs::symlink_metadata(&place.data).map_err(RuntimeError::io("look at", &place.data))?.uid();
    if owner != account.uid {
        let detail = format!("it belongs to the user with id {owner}, not to {}", account.name);
        return Err(RuntimeError::NotOurs { path: place.data.clone(), detail });
    }
    account.check_reach(&place.root)?;
    check_port(spec)?;
    // Nothing runs here, so a pid file is stale; its number may be somebody else's now, and PostgreSQL would
    // then refuse to start.
    remove_file(&place.data.join("postmaster.pid"))?;
    ensure_socket_dir(layout, place, account)?;
    for name in names(&place.socket_dir)? {
        if name.starts_with(".s.PGSQL.") {
            remove_file(&place.socket_dir.join(name))?;
        }
    }
    ensure_owned_dir(&place.log, account)?;
    let position = logs::position(place)?;
    let output = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(NO_FOLLOW)
        .open(&place.start_log)
        .map_err(RuntimeError::io("open", &place.start_log))?;
    account.own_file(&output, &place.start_log)?;
    let again = output.try_clone().map_err(RuntimeError::io("open", &place.start_log))?;
    Ok(Mark { stdout: output.into(), stderr: again.into(), position })
}

/// Makes the folder of the private socket, which a reboot may have swept away.
fn ensure_socket_dir(layout: &Layout, place: &Place, account: &Account) -> Result<(), RuntimeError> {
    if place.socket_dir.starts_with(&layout.short_run) {
        ensure_dir(&layout.short_run, 0o711)?;
        let meta = fs::symlink_metadata(&layout.short_run).map_err(RuntimeError::io("look at", &layout.short_run))?;
        // Anybody can make a folder of this name first.
        if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            let detail = "it was made by somebody else".to_owned();
            return Err(RuntimeError::NotOurs { path: layout.short_run.clone(), detail });
        }
    }
    ensure_owned_dir(&place.socket_dir, account)
}

/// Whether the port can be listened on, before a server is started in vain. The server's own try decides.
fn check_port(spec: &ServerSpec) -> Result<(), RuntimeError> {
    match TcpListener::bind((spec.listen, spec.port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(RuntimeError::PortTaken { port: spec.port }),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            Err(failed(&format!("{} is not an address of this machine", spec.listen), Vec::new()))
        }
        _ => Ok(()),
    }
}

/// Reads from the log why a start failed.
fn explain(lines: Vec<String>, spec: &ServerSpec, place: &Place) -> Result<Attempt, RuntimeError> {
    let says = |text: &str| lines.iter().any(|line| line.contains(text));
    if says("Address already in use") {
        return Err(RuntimeError::PortTaken { port: spec.port });
    }
    // Shared memory is not the file system that somebody can free.
    if says("No space left on device") && !says("shared memory") {
        return Err(RuntimeError::DiskFull { path: place.data.clone() });
    }
    let remains = says("pre-existing shared memory block") || says("lock file \"postmaster.pid\" already exists");
    let error = failed(&reason(&lines), lines);
    if remains { Ok(Attempt::Remains(error)) } else { Err(error) }
}

fn failed(reason: &str, mut log: Vec<String>) -> RuntimeError {
    log.drain(..log.len().saturating_sub(LAST_LINES));
    RuntimeError::ServerFailed { reason: reason.to_owned(), log }
}

/// Stops the server cleanly, then less cleanly; returns once no process is left.
pub(crate) async fn stop(place: &Place, grace: Duration) -> Result<(), RuntimeError> {
    const FORCED: Duration = Duration::from_secs(5);
    for (signal, grace) in [(Signal::INT, grace), (Signal::QUIT, FORCED), (Signal::KILL, FORCED)] {
        let Some(server) = find(place).await? else { break };
        if signal != Signal::INT {
            tracing::warn!(id = place.id, pid = server.pid, ?signal, "the server did not stop in time");
        }
        server.signal(signal);
        if timeout_at(Instant::now() + grace, server.ended(&place.data)).await.is_ok() {
            break;
        }
    }
    if !procs::clear_stragglers(&place.data, Duration::from_secs(1)).await {
        return Err(failed("its processes cannot be ended", Vec::new()));
    }
    let here = place.clone();
    blocking(move || {
        if crate::process::files::exists(&here.data)? {
            remove_file(&here.data.join("postmaster.pid"))?;
        }
        Ok(())
    })
    .await
}

/// Waits until the running server has ended.
pub(crate) async fn exited(place: &Place) -> Result<(), RuntimeError> {
    if let Some(server) = find(place).await? {
        server.ended(&place.data).await;
    }
    Ok(())
}

/// The running server, looked up off the asynchronous threads.
pub(crate) async fn find(place: &Place) -> Result<Option<Postmaster>, RuntimeError> {
    let data = place.data.clone();
    blocking(move || Ok(procs::postmaster(&data))).await
}
