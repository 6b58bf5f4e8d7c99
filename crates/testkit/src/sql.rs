//! Logging in to a database as its owner does.

use crate::wait;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A session of a database's owner.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

/// Logs in with a connection URL, encrypted when it says `sslmode=require`.
pub async fn login(url: &str) -> Result<Session, tokio_postgres::Error> {
    let mut config: Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(5));
    let client = if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client
    } else {
        let (client, connection) = config.connect(MakeRustlsConnect::new(any_certificate())).await?;
        tokio::spawn(connection);
        client
    };
    Ok(Session { client })
}

impl Session {
    /// Runs statements and gives back the first column of the last row, if there is one.
    pub async fn run(&self, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }
}

/// Logs in, runs statements, and gives back the first column of the last row, or `""`. Panics when it cannot.
pub async fn run(url: &str, sql: &str) -> String {
    let session = login(url).await.unwrap_or_else(|error| panic!("could not log in: {}", explain(&error)));
    let answer = session.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", explain(&error)));
    answer.unwrap_or_default()
}

/// Waits until one can log in.
pub async fn wait_for(url: &str) {
    let look = || async { login(url).await.ok()?.run("SELECT 1").await.ok() };
    wait::until(Duration::from_secs(30), "a login", look).await;
}

/// An error with what PostgreSQL said.
pub fn explain(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| format!("{error:?}"), |db| format!("{} {}", db.code().code(), db.message()))
}

fn any_certificate() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth()
}

/// What `sslmode=require` means: encrypted, with whatever certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
