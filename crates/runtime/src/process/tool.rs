//! PostgreSQL's client programs, run where the server is.

use super::account::Account;
use crate::spec::{Engine, Tool};
use crate::{RunningTool, RuntimeError};
use secrecy::ExposeSecret;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of the end of a program's error output is kept.
const STDERR_BYTES: usize = 4096;

/// Starts a program of the engine, connecting through the private socket. It is killed when the result is dropped.
pub(super) fn run(
    engine: &Engine,
    account: &Account,
    socket: &Path,
    port: u16,
    tool: Tool<'_>,
) -> Result<RunningTool, RuntimeError> {
    let program = engine.bin_dir.join(tool.program);
    let failed = || RuntimeError::io("run", &program);
    let mut command = Command::new(&program);
    command.args(tool.args);
    super::environment(&mut command, engine);
    // Through the environment, which only the same user and root can read; an argument list anybody can.
    command
        .env("PGHOST", socket)
        .env("PGPORT", port.to_string())
        .env("PGUSER", tool.user)
        .env("PGDATABASE", tool.db)
        .env("PGPASSWORD", tool.password.expose_secret())
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGAPPNAME", "pgdb");
    account.apply(&mut command);
    match &tool.stdin {
        Some(path) => command.stdin(std::fs::File::open(path).map_err(RuntimeError::io("read", path))?),
        None => command.stdin(Stdio::null()),
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed())?;
    let missing = || RuntimeError::io("run", &program)(std::io::Error::other("it has no output"));
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let name = tool.program.to_owned();
    let finished = async move {
        let stderr = tail(stderr).await;
        let status = child.wait().await.map_err(RuntimeError::io("wait for", &program))?;
        if status.success() { Ok(()) } else { Err(RuntimeError::ToolFailed { program: name, stderr }) }
    };
    Ok(RunningTool { stdout: Box::new(stdout), finished: Box::pin(finished) })
}

async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
