//! The prepared data directory of an engine: made once by `initdb`, copied for every server.
//!
//! It holds a role without a login and a database that belongs to it, to be renamed in each copy. Its superuser
//! has no password and is reached through a private socket only.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::copy::cut_zero_tail;
use crate::process::files;
use crate::process::files::{
    blocking, data_major, ensure_owned_dir, exists, names, read_text, remove_tree, sync_file_system, sync_parent,
    write_atomic,
};
use crate::process::layout::Layout;
use crate::spec::{ADMIN_ROLE, Engine, PREPARED_DB};
use crate::{conf, seed};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Raised whenever what a prepared directory holds changes, so that old ones are made anew.
const FORMAT: u32 = 1;
/// Beside the data, not in it, so that copies do not hold it.
const MARKER: &str = "pgdb-prepared.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    version: String,
}

/// The folder that holds an engine's prepared data and its marker.
pub(crate) fn folder(layout: &Layout, engine: &Engine) -> PathBuf {
    layout.prepared.join(format!("{}-{}", engine.major, engine.version))
}

/// Whether a whole prepared directory of our format is there, and the account's.
pub(crate) fn is_ready(layout: &Layout, engine: &Engine, account: &Account) -> Result<bool, RuntimeError> {
    let folder = folder(layout, engine);
    let Some(text) = read_text(&folder.join(MARKER))? else { return Ok(false) };
    let wanted = Marker { format: FORMAT, version: engine.version.clone() };
    let ours = fs::symlink_metadata(folder.join("data")).is_ok_and(|meta| meta.uid() == account.uid);
    Ok(ours && serde_json::from_str::<Marker>(&text).is_ok_and(|marker| marker == wanted))
}

/// Makes the prepared directory unless it is there. The caller holds this process's lock for the major.
pub(crate) async fn ensure(layout: &Layout, engine: &Engine, account: &Account) -> Result<(), RuntimeError> {
    let (here, its, owner) = (layout.clone(), engine.clone(), account.clone());
    if blocking(move || is_ready(&here, &its, &owner)).await? {
        return Ok(());
    }
    let lock_path = layout.prepared.join(format!("{}.lock", engine.major));
    let _lock = lock(lock_path).await?;

    let temporary = layout.prepared.join(format!(".{}-{}.new", engine.major, engine.version));
    let (here, its, owner, fresh) = (layout.clone(), engine.clone(), account.clone(), temporary.clone());
    let done = blocking(move || {
        // Another process may have made it while we waited.
        if is_ready(&here, &its, &owner)? {
            return Ok(true);
        }
        owner.check_reach(&here.prepared)?;
        owner.check_reach(&its.bin_dir)?;
        remove_tree(&fresh)?;
        files::ensure_dir(&fresh, 0o711)?;
        ensure_owned_dir(&fresh.join("data"), &owner)?;
        Ok(false)
    })
    .await?;
    if done {
        return Ok(());
    }
    tracing::info!(major = engine.major, version = engine.version, "preparing a data directory");
    let data = temporary.join("data");
    let filled = fill(engine, account, &data).await;
    if let Err(error) = filled {
        blocking(move || remove_tree(&temporary)).await.ok();
        return Err(error);
    }
    let (here, its, owner) = (layout.clone(), engine.clone(), account.clone());
    blocking(move || finish(&here, &its, &owner, &temporary)).await
}

/// `initdb`, then our role and database.
async fn fill(engine: &Engine, account: &Account, data: &Path) -> Result<(), RuntimeError> {
    // Known to every glibc since 2.35 and to Debian's before; others only know C, which sorts the same way.
    match initdb(engine, account, data, "C.UTF-8").await {
        Err(RuntimeError::ToolFailed { stderr, .. }) if stderr.contains("locale") => {
            let empty = data.to_owned();
            let owner = account.clone();
            blocking(move || {
                remove_tree(&empty)?;
                ensure_owned_dir(&empty, &owner)
            })
            .await?;
            initdb(engine, account, data, "C").await?;
        }
        result => result?,
    }
    single_user(engine, account, data, "postgres", &seed::cluster(engine.major, seed::Server::Single)).await?;
    let inside = seed::database(engine.major);
    if !inside.is_empty() {
        single_user(engine, account, data, PREPARED_DB, &inside).await?;
    }
    Ok(())
}

async fn initdb(engine: &Engine, account: &Account, data: &Path, locale: &str) -> Result<(), RuntimeError> {
    let locale = format!("--locale={locale}");
    let user = format!("--username={ADMIN_ROLE}");
    let args: [&OsStr; 10] = [
        OsStr::new("-D"),
        data.as_os_str(),
        OsStr::new(&user),
        OsStr::new("--auth-local=peer"),
        OsStr::new("--auth-host=reject"),
        OsStr::new("--encoding=UTF8"),
        OsStr::new(&locale),
        OsStr::new("--data-checksums"),
        OsStr::new("--no-sync"),
        OsStr::new("--no-instructions"),
    ];
    // 13 does not know the last one.
    let args = if engine.major < 14 { &args[..9] } else { &args[..] };
    run(engine, account, "initdb", args, data, None).await
}

/// Runs statements in a server without a postmaster, which shuts down cleanly at the end of its input.
async fn single_user(
    engine: &Engine,
    account: &Account,
    data: &Path,
    db: &str,
    statements: &[String],
) -> Result<(), RuntimeError> {
    let mut input = statements.join("\n");
    input.push('\n');
    let args: Vec<&OsStr> = vec![
        OsStr::new("--single"),
        OsStr::new("-D"),
        data.as_os_str(),
        // Without it an error is printed and the next statement runs.
        OsStr::new("-c"),
        OsStr::new("exit_on_error=on"),
        OsStr::new("-c"),
        OsStr::new("fsync=off"),
        OsStr::new(db),
    ];
    run(engine, account, "postgres", &args, data, Some(input)).await
}

async fn run(
    engine: &Engine,
    account: &Account,
    program: &str,
    args: &[&OsStr],
    data: &Path,
    input: Option<String>,
) -> Result<(), RuntimeError> {
    let path = engine.bin_dir.join(program);
    let mut command = account.command(&path, Some(engine));
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(RuntimeError::io("run", &path))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ended early says why below.
        stdin.write_all(input.as_bytes()).await.ok();
    }
    let output = child.wait_with_output().await.map_err(RuntimeError::io("wait for", &path))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.contains("No space left on device") {
        return Err(RuntimeError::DiskFull { path: data.to_owned() });
    }
    Err(RuntimeError::ToolFailed { program: program.to_owned(), stderr })
}

/// Puts the finishing touches on fresh data, and moves it to its place.
fn finish(layout: &Layout, engine: &Engine, account: &Account, temporary: &Path) -> Result<(), RuntimeError> {
    let data = temporary.join("data");
    if data_major(&data)? != Some(engine.major) {
        return Err(RuntimeError::NotOurs { path: data, detail: "initdb made another major".to_owned() });
    }
    // What is the same in every server need not be written for each.
    write_atomic(&data.join("postgresql.conf"), conf::MAIN.as_bytes(), account, false)?;
    write_atomic(&data.join("custom.conf"), conf::CUSTOM.as_bytes(), account, false)?;
    write_atomic(
        &data.join("pg_hba.conf"),
        conf::host_based_authentication(false, conf::AdminAccess::Socket).as_bytes(),
        account,
        false,
    )?;
    let identities = conf::identities(&account.daemon, &account.name);
    write_atomic(&data.join("pg_ident.conf"), identities.as_bytes(), account, false)?;
    let wal = data.join("pg_wal");
    for name in names(&wal)? {
        let segment = wal.join(name);
        if segment.is_file() {
            cut_zero_tail(&segment)?;
        }
    }
    let marker = Marker { format: FORMAT, version: engine.version.clone() };
    let path = temporary.join(MARKER);
    let json = serde_json::to_vec(&marker).map_err(|error| RuntimeError::io("write", &path)(error.into()))?;
    fs::write(&path, json).map_err(RuntimeError::io("write", &path))?;
    sync_file_system(temporary)?;

    let target = folder(layout, engine);
    if exists(&target)? {
        // Of an older format or another account.
        let trash = layout.free_trash(&format!("prepared-{}", engine.major))?;
        fs::rename(&target, &trash).map_err(RuntimeError::io("move away", &target))?;
        remove_tree(&trash)?;
    }
    fs::rename(temporary, &target).map_err(RuntimeError::io("rename", temporary))?;
    sync_parent(&target)?;
    remove_older(layout, engine)
}

/// Removes what was prepared for other versions of the major: the engine has been upgraded.
fn remove_older(layout: &Layout, engine: &Engine) -> Result<(), RuntimeError> {
    let current = folder(layout, engine);
    let prefix = format!("{}-", engine.major);
    for name in names(&layout.prepared)? {
        let path = layout.prepared.join(&name);
        if name.starts_with(&prefix) && path != current {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// Waits for the lock that other processes on the same data directory take as well.
async fn lock(path: PathBuf) -> Result<File, RuntimeError> {
    let open = path.clone();
    let file = blocking(move || {
        File::options().create(true).append(true).open(&open).map_err(RuntimeError::io("open", &open))
    })
    .await?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(RuntimeError::io("lock", &path)(error.into())),
        }
    }
}
