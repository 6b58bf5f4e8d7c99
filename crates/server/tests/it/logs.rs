use crate::support::{ADMIN, Daemon, Outcome};
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_reaches_the_log() -> Outcome {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // For the whole process: what runs in tasks of its own must not escape. Other tests' lines are looked at too.
    tracing::subscriber::set_global_default(subscriber)?;
    let token = async {
        let daemon = Daemon::start().await?;
        let (token, id) = daemon.token(&["audit:read"], None).await?;
        daemon.call("GET", &format!("/v1/audit?subject={token}"), &token, "").await?;
        daemon.call("GET", &format!("/{token}?x={token}"), &token, "").await?;
        daemon.call("GET", &format!("/v1/audit?limit={token}"), &token, "").await?;
        daemon.call("POST", "/v1/tokens", ADMIN, &format!(r#"{{"name":5,"x":"{token}"}}"#)).await?;
        daemon.call("POST", "/v1/keys/rotate", ADMIN, "").await?;
        daemon.call("GET", "/v1/version", &format!("{token}wrong"), "").await?;
        daemon.call("DELETE", &format!("/v1/tokens/{id}"), ADMIN, "").await?;
        daemon.app.audit.close().await;
        anyhow::Ok((token, std::fs::read_to_string(daemon.folder.path().join("master.key"))?))
    };
    let (token, keys) = token.await?;
    let log = captured.0.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    assert!(log.contains("/v1/tokens/{id}") && log.contains("request_id"), "{log}");
    let secret = token.rsplit_once('_').map_or(token.as_str(), |(_, secret)| secret);
    for secret in [ADMIN, secret].into_iter().chain(keys.lines()) {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    Ok(())
}
