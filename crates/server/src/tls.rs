//! TLS of the API.

use crate::config::TlsFiles;
use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;

/// Chooses the process's cryptography. Call it once, before anything speaks TLS.
pub fn install_crypto() {
    // An error means that there is one already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Reads certificate and key.
pub(crate) async fn load(files: &TlsFiles) -> anyhow::Result<RustlsConfig> {
    RustlsConfig::from_pem_file(&files.cert, &files.key).await.with_context(|| {
        format!("could not use the certificate {} with the key {}", files.cert.display(), files.key.display())
    })
}

/// Reads certificate and key again at every SIGHUP. What cannot be used is reported, and the old ones stay.
pub(crate) async fn reload_on_hangup(config: RustlsConfig, files: TlsFiles) -> anyhow::Result<()> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).context("watch SIGHUP")?;
    while hangup.recv().await.is_some() {
        match config.reload_from_pem_file(&files.cert, &files.key).await {
            Ok(()) => tracing::info!(cert = %files.cert.display(), "certificate read again"),
            Err(error) => tracing::error!(%error, cert = %files.cert.display(), "the old certificate stays"),
        }
    }
    Ok(())
}
