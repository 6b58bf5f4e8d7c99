//! Programs inside of a server's container.

use crate::RunningTool;
use crate::docker::engine::Engine;
use crate::docker::files::SOCKET_DIR;
use crate::docker::plan::PORT;
use crate::error::RuntimeError;
use crate::process::tool::{PROGRAMS, STDERR_BYTES, without_data};
use crate::spec::Tool;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures::{FutureExt, StreamExt};
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

/// How much of a program's output may wait for its reader.
const BUFFER: usize = 256 * 1024;
/// How long a short program may take.
const SHORT: Duration = Duration::from_secs(120);
/// Ends the program when whoever wanted its output is gone: an engine closes the input of what it runs for a client
/// that left, and does nothing else about it. Every child is waited for: what is orphaned becomes PostgreSQL's own, which
/// takes the death of such a child for a crash of its own and ends all sessions.
const WATCHED: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & p=$!
{ cat <&3 & c=$!; trap 'kill $c; wait $c; exit 0' TERM; wait $c; kill $p; } >/dev/null 2>&1 & w=$!
wait $p; s=$?; kill $w 2>/dev/null; wait $w; exit $s";

/// What ran, once it has ended.
struct Ended {
    code: i64,
    stderr: String,
}

/// Ends the task when dropped, and with it the connection to the program.
struct Task(JoinHandle<Result<Ended, RuntimeError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a client program in the server's container. It is ended when the returned future is dropped.
pub(crate) async fn tool(engine: Arc<Engine>, container: &str, tool: Tool<'_>) -> Result<RunningTool, RuntimeError> {
    if !PROGRAMS.contains(&tool.program) {
        return Err(RuntimeError::Unsupported(format!("{} is not a program that is run on servers", tool.program)));
    }
    let mut env = vec![
        format!("PGHOST={SOCKET_DIR}"),
        format!("PGPORT={PORT}"),
        format!("PGUSER={}", tool.user),
        format!("PGDATABASE={}", tool.db),
        "PGCONNECT_TIMEOUT=10".to_owned(),
        "PGPASSFILE=/dev/null".to_owned(),
        "PSQLRC=/dev/null".to_owned(),
        "PGSERVICEFILE=/dev/null".to_owned(),
    ];
    if let Some(password) = tool.password {
        // The engine shows it to nobody, and in the container only the server's own user can read it.
        env.push(format!("PGPASSWORD={}", password.expose_secret()));
    }
    let input = match &tool.stdin {
        Some(path) => Some(tokio::fs::File::open(path).await.map_err(RuntimeError::io("open", path))?),
        None => None,
    };
    let program = [tool.program.to_owned()].into_iter().chain(tool.args.iter().cloned());
    let command: Vec<String> = if input.is_some() {
        program.collect()
    } else {
        ["sh", "-c", WATCHED, "sh"].map(str::to_owned).into_iter().chain(program).collect()
    };
    let (writer, stdout) = tokio::io::duplex(BUFFER);
    let api = engine.api().await?;
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(env),
        cmd: Some(command),
        user: Some("postgres".to_owned()),
        ..CreateExecOptions::default()
    };
    let failed = || engine.failed(format!("run {} in {container}", tool.program));
    let exec = api.create_exec(container, options).await.map_err(failed())?.id;
    let started = api.start_exec(&exec, None).await.map_err(failed())?;
    let mut task = Task(tokio::spawn(carry(Arc::clone(&engine), api, exec, started, input, writer)));
    let program = tool.program.to_owned();
    let finished = async move {
        let broken =
            || RuntimeError::Containers { action: "run a program".to_owned(), message: "it was cut off".to_owned() };
        let ended = (&mut task.0).await.map_err(|_| broken())??;
        if ended.code == 0 {
            return Ok(());
        }
        let mut stderr = without_data(&ended.stderr);
        if stderr.is_empty() {
            stderr = format!("exit code {}", ended.code);
        }
        Err(RuntimeError::ToolFailed { program, stderr })
    };
    Ok(RunningTool { stdout: Box::new(stdout), finished: finished.boxed() })
}

/// Feeds the program and passes on what it writes, until it has ended.
async fn carry(
    engine: Arc<Engine>,
    api: Docker,
    exec: String,
    started: StartExecResults,
    source: Option<tokio::fs::File>,
    mut stdout: DuplexStream,
) -> Result<Ended, RuntimeError> {
    let StartExecResults::Attached { mut output, mut input } = started else {
        return Err(RuntimeError::Unsupported("a program's output could not be read".to_owned()));
    };
    let feeding = async {
        if let Some(mut source) = source {
            // A program that ended early says why by itself.
            tokio::io::copy(&mut source, &mut input).await.ok();
            input.shutdown().await.ok();
        }
        // Held open: for a program that is watched, its end would mean that we are gone.
        input
    };
    let mut stderr = Vec::new();
    let reading = async {
        while let Some(part) = output.next().await {
            match part.map_err(engine.failed("read what a program writes"))? {
                LogOutput::StdErr { message } => {
                    stderr.extend_from_slice(&message);
                    stderr.drain(..stderr.len().saturating_sub(STDERR_BYTES));
                }
                // Nobody may be reading; then the rest is thrown away.
                part => stdout.write_all(part.as_ref()).await.unwrap_or_default(),
            }
        }
        Ok::<(), RuntimeError>(())
    };
    let (_input, read) = tokio::join!(feeding, reading);
    read?;
    drop(stdout);
    let code = exit_code(&engine, &api, &exec).await?;
    Ok(Ended { code, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
}

/// What it ended with. The engine closes its output a moment before it knows.
async fn exit_code(engine: &Engine, api: &Docker, exec: &str) -> Result<i64, RuntimeError> {
    for _ in 0..500 {
        let seen = api.inspect_exec(exec).await.map_err(engine.failed("look at a program"))?;
        if seen.running != Some(true)
            && let Some(code) = seen.exit_code
        {
            return Ok(code);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let message = "it does not say how it ended".to_owned();
    Err(RuntimeError::Containers { action: "run a program".to_owned(), message })
}

/// Runs a short program as `user` and returns its output. One that fails, or does not end, is an error.
pub(crate) async fn short(
    engine: &Engine,
    container: &str,
    user: &str,
    command: &[&str],
) -> Result<String, RuntimeError> {
    let action = format!("run {} in {container}", command.first().unwrap_or(&""));
    let stuck = |_| {
        let message = format!("it did not end within {} s", SHORT.as_secs());
        RuntimeError::Containers { action: action.clone(), message }
    };
    let (text, code) = tokio::time::timeout(SHORT, run_short(engine, container, user, command, &action))
        .await
        .unwrap_or_else(|elapsed| Err(stuck(elapsed)))?;
    if code == 0 {
        return Ok(text);
    }
    let message = format!("exit code {code}: {}", text.trim());
    Err(RuntimeError::Containers { action, message })
}

async fn run_short(
    engine: &Engine,
    container: &str,
    user: &str,
    command: &[&str],
    action: &str,
) -> Result<(String, i64), RuntimeError> {
    let api = engine.api().await?;
    let failed = || engine.failed(action);
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        user: Some(user.to_owned()),
        ..CreateExecOptions::default()
    };
    let exec = api.create_exec(container, options).await.map_err(failed())?.id;
    let mut text = Vec::new();
    if let StartExecResults::Attached { mut output, .. } = api.start_exec(&exec, None).await.map_err(failed())? {
        while let Some(part) = output.next().await {
            text.extend_from_slice(part.map_err(failed())?.as_ref());
        }
    }
    let code = exit_code(engine, &api, &exec).await?;
    Ok((String::from_utf8_lossy(&text).into_owned(), code))
}
