//! One data directory per engine version, made once; every deploy copies it instead of running `initdb`.

use super::account::Account;
use super::engines::major_of;
use crate::RuntimeError;
use crate::spec::{ADMIN_ROLE, Engine, PREPARED_DB, PREPARED_ROLE};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Counts up when what a prepared directory holds changes; older ones are then made anew.
const FORM: u32 = 2;

/// Where the prepared directory of an engine is, once it is made.
pub(super) fn path(folder: &Path, engine: &Engine) -> PathBuf {
    folder.join(format!("{}-form{FORM}", engine.version.replace('/', "_")))
}

/// Makes the prepared directory unless it is there. Other processes are kept out by a lock file.
pub(super) async fn ensure(folder: &Path, engine: &Engine, account: &Account) -> Result<PathBuf, RuntimeError> {
    let target = path(folder, engine);
    if target.join("PG_VERSION").exists() {
        return Ok(target);
    }
    fs::create_dir_all(folder).map_err(RuntimeError::io("make the folder", folder))?;
    account.check_reachable(folder)?;
    let lock_path = folder.join(format!("{}.lock", engine.major));
    let lock = tokio::task::spawn_blocking({
        let lock_path = lock_path.clone();
        move || {
            let file = File::create(&lock_path)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| std::io::Error::from(error))
        }
    });
    let joined = lock.await.map_err(|error| RuntimeError::io("lock", &lock_path)(std::io::Error::other(error)))?;
    let _lock = joined.map_err(RuntimeError::io("lock", &lock_path))?;
    if target.join("PG_VERSION").exists() {
        return Ok(target);
    }
    tracing::info!(version = %engine.version, "preparing a data directory; every deploy of this version copies it");
    let making = folder.join(format!("{}.making", engine.major));
    if making.exists() {
        fs::remove_dir_all(&making).map_err(RuntimeError::io("remove", &making))?;
    }
    let made = make(engine, account, &making).await;
    if made.is_err() {
        // On a full disk what is half made would keep even its own failure from being written down.
        let _ = fs::remove_dir_all(&making);
    }
    made?;
    fs::rename(&making, &target).map_err(RuntimeError::io("move into place", &target))?;
    Ok(target)
}

async fn make(engine: &Engine, account: &Account, making: &Path) -> Result<(), RuntimeError> {
    super::layout::ensure_private(making, account, 0o700, false)?;
    initdb(engine, account, making).await?;
    for (db, sql) in statements(engine.major) {
        single_user(engine, account, making, db, &sql).await?;
    }
    for leftover in ["postmaster.pid", "postmaster.opts"] {
        let _ = fs::remove_file(making.join(leftover));
    }
    super::sync_file_system(making)
}

async fn initdb(engine: &Engine, account: &Account, data: &Path) -> Result<(), RuntimeError> {
    let mut command = Command::new(engine.bin_dir.join("initdb"));
    // Only the socket lets our administrator in, by the operating system's word; there is no password to steal.
    command
        .args(["--no-sync", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--auth-host=reject", "--auth-local=peer", "--username", ADMIN_ROLE, "--pgdata"])
        .arg(data);
    super::environment(&mut command, engine);
    account.apply(&mut command);
    let output =
        command.stdin(Stdio::null()).output().await.map_err(RuntimeError::io("run", engine.bin_dir.join("initdb")))?;
    check("initdb", &output.stderr, output.status.success(), data)
}

/// What the prepared directory holds beyond what `initdb` makes, by database.
fn statements(major: u16) -> Vec<(&'static str, String)> {
    // Before 16 who may make roles may also grant pg_execute_server_program, and so run programs as the servers' user.
    let create_role = if major < 16 { "" } else { " CREATEROLE" };
    let role = format!(
        "CREATE ROLE {PREPARED_ROLE} NOLOGIN CREATEDB{create_role};\nGRANT pg_monitor, pg_signal_backend TO {PREPARED_ROLE};\n\
         CREATE DATABASE {PREPARED_DB} OWNER {PREPARED_ROLE};\nREVOKE CONNECT, TEMPORARY ON DATABASE {PREPARED_DB} FROM PUBLIC;\n\
         REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;\nGRANT CONNECT ON DATABASE postgres TO {PREPARED_ROLE};\n"
    );
    let mut all = vec![("postgres", role)];
    if major < 15 {
        // From 15 on the schema belongs to pg_database_owner, which is the owner of whatever database it is in.
        all.push((PREPARED_DB, format!("ALTER SCHEMA public OWNER TO {PREPARED_ROLE};\n")));
    }
    all
}

/// Runs statements, one a line, in a server without a network. It stops cleanly at the end of its input.
async fn single_user(engine: &Engine, account: &Account, data: &Path, db: &str, sql: &str) -> Result<(), RuntimeError> {
    let program = engine.bin_dir.join("postgres");
    let mut command = Command::new(&program);
    command.args(["--single", "-F", "-c", "exit_on_error=true", "-c", "log_checkpoints=off", "-D"]).arg(data).arg(db);
    super::environment(&mut command, engine);
    account.apply(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = || RuntimeError::io("run", &program);
    let mut child = command.spawn().map_err(failed())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(sql.as_bytes()).await.map_err(failed())?;
    }
    let output = child.wait_with_output().await.map_err(failed())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let complained = text.lines().any(|line| line.contains("ERROR:") || line.contains("FATAL:"));
    check("postgres --single", &output.stderr, output.status.success() && !complained, data)
}

fn check(program: &str, stderr: &[u8], fine: bool, data: &Path) -> Result<(), RuntimeError> {
    if fine {
        return Ok(());
    }
    let text = String::from_utf8_lossy(stderr);
    if text.contains("No space left on device") {
        return Err(RuntimeError::DiskFull { path: data.to_owned() });
    }
    let end: Vec<&str> = text.lines().rev().take(5).collect();
    let stderr = end.into_iter().rev().collect::<Vec<_>>().join(" | ");
    Err(RuntimeError::ToolFailed { program: program.to_owned(), stderr })
}

/// The major of a data directory, from its `PG_VERSION`.
pub(super) fn major_in(data: &Path) -> Option<u16> {
    major_of(fs::read_to_string(data.join("PG_VERSION")).ok()?.trim())
}
