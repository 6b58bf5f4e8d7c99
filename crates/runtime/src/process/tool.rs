//! Client programs: of a server's own major over its private socket, or against any other server.

use crate::RunningTool;
use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::files::blocking;
use crate::spec::{Engine, Tool};
use futures::FutureExt;
use secrecy::ExposeSecret;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncReadExt;

/// Programs that may be run; each reads its connection from the environment.
pub(crate) const PROGRAMS: [&str; 3] = ["pg_dump", "pg_restore", "psql"];
/// How much of its error output is kept.
pub(crate) const STDERR_BYTES: usize = 4096;

/// Where a program finds the server.
pub(crate) struct Connection {
    pub(crate) host: PathBuf,
    pub(crate) port: u16,
    pub(crate) sslmode: String,
    pub(crate) sslrootcert: Option<PathBuf>,
}

/// Starts a client program. It is killed when the returned future is dropped.
pub(crate) async fn run(
    connection: &Connection,
    engine: &Engine,
    account: &Account,
    tool: Tool<'_>,
) -> Result<RunningTool, RuntimeError> {
    if !PROGRAMS.contains(&tool.program) {
        return Err(RuntimeError::Unsupported(format!("{} is not a program that is run on servers", tool.program)));
    }
    let path = engine.bin_dir.join(tool.program);
    let mut command = account.command(&path, Some(engine));
    command
        .args(tool.args)
        .env("PGHOST", &connection.host)
        .env("PGPORT", connection.port.to_string())
        .env("PGSSLMODE", &connection.sslmode)
        .env("PGUSER", tool.user)
        .env("PGDATABASE", tool.db)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGPASSFILE", "/dev/null")
        .env("PSQLRC", "/dev/null")
        .env("PGSERVICEFILE", "/dev/null")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(password) = tool.password {
        // Readable only by the same user and root; an argument would be readable by everybody.
        command.env("PGPASSWORD", password.expose_secret());
    }
    if let Some(authority) = &connection.sslrootcert {
        command.env("PGSSLROOTCERT", authority);
    }
    if let Some(input) = tool.stdin {
        // Opened by us: the account may not be allowed to read where it is.
        let file = blocking(move || File::open(&input).map_err(RuntimeError::io("open", &input))).await?;
        command.stdin(file);
    }
    let mut child = command.spawn().map_err(RuntimeError::io("run", &path))?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(RuntimeError::Unsupported("a program's output could not be read".to_owned()));
    };
    // Read by a task of its own: a full pipe would hold the program up while its caller still reads its output.
    let errors = tokio::spawn(async move {
        let mut end = Vec::new();
        let mut chunk = vec![0; STDERR_BYTES];
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            end.extend_from_slice(&chunk[..read]);
            end.drain(..end.len().saturating_sub(STDERR_BYTES));
        }
        String::from_utf8_lossy(&end).trim().to_owned()
    });
    let program = tool.program.to_owned();
    let finished = async move {
        let status = child.wait().await.map_err(RuntimeError::io("wait for", &path))?;
        if status.success() {
            return Ok(());
        }
        let mut stderr = without_data(&errors.await.unwrap_or_default());
        if stderr.is_empty() {
            stderr = status.to_string();
        }
        Err(RuntimeError::ToolFailed { program, stderr })
    };
    Ok(RunningTool { stdout: Box::new(stdout), finished: finished.boxed() })
}

/// What a program said, without the statements and rows that it quotes: they are somebody's data, and a statement of a
/// dump may hold a password.
pub(crate) fn without_data(stderr: &str) -> String {
    let said = |line: &&str| line.starts_with("pg_") || line.contains("ERROR:") || line.contains("FATAL:");
    stderr.lines().filter(said).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::without_data;

    #[test]
    fn quoted_statements_are_left_out() {
        let said = "pg_restore: error: could not execute query: ERROR:  permission denied\nDETAIL:  Key (x)=(secret)\n\
                    CONTEXT:  COPY t, line 1: \"secret\"\nCommand was: CREATE SUBSCRIPTION s CONNECTION 'password=secret'\n\
                    PUBLICATION p;";
        assert_eq!(without_data(said), "pg_restore: error: could not execute query: ERROR:  permission denied");
    }
}
