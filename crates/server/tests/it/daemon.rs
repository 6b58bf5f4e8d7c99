use crate::support::{ADMIN, Outcome, secrets};
use pgdb_server::ca::Ca;
use pgdb_server::config::{Config, Options, Surroundings};
use pgdb_server::{daemon, install_crypto, system::SystemEntropy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use secrecy::ExposeSecret;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn config(folder: &Path, change: impl FnOnce(Options) -> Options) -> anyhow::Result<(Arc<Config>, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let options =
        Options { data_dir: Some(folder.to_owned()), listen: Some(format!("127.0.0.1:{port}")), ..Options::default() };
    Ok((Arc::new(change(options).resolve(&secrets(ADMIN), &Surroundings::of_this_process()?)?), port))
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: \
         application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    for _ in 0..200 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            return Ok(stream);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Err(std::io::Error::other("the daemon does not listen"))
}

fn exchange(mut stream: impl Read + Write, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A TLS server that closes without a farewell.
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_serves_keeps_others_out_and_ends_when_asked() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (first, port) = config(folder.path(), |options| options)?;
    let running = tokio::spawn(daemon::serve(first, secrets(ADMIN), false));
    let answer = tokio::task::spawn_blocking(move || exchange(connect(port)?, &request("GET", "/v1/version", "")));
    let answer = answer.await??;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"pid\""), "{answer}");

    let (second, _) = config(folder.path(), |options| options)?;
    let refused = daemon::serve(second, secrets(ADMIN), false).await.err().map(|error| error.to_string());
    let refused = refused.unwrap_or_default();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");

    // A connection that says nothing does not hold the end up for long, one in use is answered.
    let stop = request("POST", "/v1/shutdown", r#"{"stop_databases":false}"#);
    let answer = tokio::task::spawn_blocking(move || exchange(connect(port)?, &stop)).await??;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    tokio::time::timeout(Duration::from_secs(15), running).await???;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());

    // The audit log has the shutdown's row.
    let rows: i64 = rusqlite::Connection::open(folder.path().join("state.db"))?.query_row(
        "SELECT count(*) FROM audit WHERE action = 'POST /v1/shutdown' AND status = 202",
        [],
        |row| row.get(0),
    )?;
    assert_eq!(rows, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_speaks_tls_with_certificate_files() -> Outcome {
    install_crypto();
    let folder = tempfile::tempdir()?;
    let ca = Ca::open(folder.path(), "2026-06-01T00:00:00Z".parse()?, &SystemEntropy)?;
    let (cert, key) = ca.issue(&["localhost".to_owned()], "2026-06-01T00:00:00Z".parse()?, &SystemEntropy)?;
    let (cert_path, key_path) = (folder.path().join("api.pem"), folder.path().join("api.key"));
    std::fs::write(&cert_path, cert)?;
    std::fs::write(&key_path, key.expose_secret())?;
    let (config, port) = config(&folder.path().join("data"), |options| Options {
        tls_cert: Some(cert_path),
        tls_key: Some(key_path),
        ..options
    })?;
    let running = tokio::spawn(daemon::serve(config, secrets(ADMIN), false));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes())?)?;
    let client = Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let answer = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
        let session = rustls::ClientConnection::new(client, ServerName::try_from("localhost")?)?;
        let stop = request("POST", "/v1/shutdown", r#"{"stop_databases":false}"#);
        Ok(exchange(rustls::StreamOwned::new(session, connect(port)?), &stop)?)
    });
    let answer = answer.await??;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    tokio::time::timeout(Duration::from_secs(15), running).await???;
    Ok(())
}
