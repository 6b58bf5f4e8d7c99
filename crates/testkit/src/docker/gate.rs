//! A socket before an engine's that notes each call, and lets through what the proxy of `deploy/docker` lets through.

use regex::Regex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What was asked, as method and path, and whether it was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Method and path with its query.
    pub line: String,
    /// Whether the engine has seen it.
    pub allowed: bool,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Gate {
    socket: PathBuf,
    calls: Arc<Mutex<Vec<Call>>>,
    serving: JoinHandle<()>,
}

impl Gate {
    /// Listens at `socket`, before the engine that listens at `engine`.
    pub fn open(socket: PathBuf, engine: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("listen on a socket");
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (noted, allowed) = (Arc::clone(&calls), Arc::new(allowed()));
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (engine, noted, allowed) = (engine.clone(), Arc::clone(&noted), Arc::clone(&allowed));
                // It ends with its connection, however that ends.
                tokio::spawn(async move { pass(client, &engine, &noted, &allowed).await });
            }
        });
        Self { socket, calls, serving }
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The calls since the last time that this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The calls that `deploy/docker/socket-proxy.conf` lets through, in the order of its lines.
pub fn allowed() -> Vec<Regex> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docker/socket-proxy.conf");
    let text = std::fs::read_to_string(path).expect("read the proxy's configuration");
    let patterns = text.lines().filter_map(|line| line.trim().strip_prefix("\"~")?.strip_suffix("\" 1;"));
    patterns.map(|pattern| Regex::new(pattern).expect("a pattern")).collect()
}

/// Carries one connection, whose client waits for an answer before it asks again, as Docker's do.
async fn pass(client: UnixStream, engine: &Path, calls: &Mutex<Vec<Call>>, allowed: &[Regex]) -> io::Result<()> {
    let (mut from_engine, mut to_engine) = UnixStream::connect(engine).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let asking = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return to_engine.shutdown().await.map(|()| true);
            }
            if let Some(line) = call(&buffer[..read]) {
                let allowed = allowed.iter().any(|pattern| pattern.is_match(&line));
                calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { line, allowed });
                if !allowed {
                    return Ok(false);
                }
            }
            to_engine.write_all(&buffer[..read]).await?;
        }
    };
    {
        let answering = copy(&mut from_engine, &mut to_client);
        tokio::pin!(asking, answering);
        let open = tokio::select! {
            asked = &mut asking => asked?,
            answered = &mut answering => return answered.map(|_| ()),
        };
        if open {
            // The client has said all that it will; the engine may still answer.
            return answering.await.map(|_| ());
        }
    }
    let refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n{\"message\": \"closed\"}";
    to_client.write_all(refusal).await
}

/// Method and path, if a request begins here.
fn call(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?;
    Some(line.to_owned())
}
