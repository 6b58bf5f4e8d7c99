//! Encrypted sessions.

use crate::server::{ADMIN, PATIENCE, Server, give_away, one};
use pgdb_pg::challenge::{Challenge, challenge};
use pgdb_pg::{PgError, TlsMode, connect, provision, scram};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use secrecy::SecretString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub(crate) struct Made {
    pub(crate) authority: String,
    certificate: String,
    key: String,
}

pub(crate) fn certificate(name: &str) -> Made {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    // Of another name than the server, whose certificate would otherwise look as if it had signed itself.
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&authority_key).expect("signed").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec![name.into()]).expect("parameters");
    let certificate = server.signed_by(&key, &issuer).expect("signed").pem();
    Made { authority, certificate, key: key.serialize_pem() }
}

pub(crate) async fn encrypted_server(made: &Made) -> Server {
    Server::start_with("ssl = on", |data| {
        for (name, text) in [("server.crt", &made.certificate), ("server.key", &made.key)] {
            let path = data.join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
            give_away(&path);
        }
    })
    .await
}

#[tokio::test]
async fn sessions_are_encrypted_and_certificates_checked() {
    let made = certificate("some.other.name");
    let server = encrypted_server(&made).await;
    let password = SecretString::from("secret");
    let admin = server.admin("postgres").await;
    provision::set_password(&admin, ADMIN, &scram::verifier(&password)).await.expect("set");

    let encrypted = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (mode, expected) in [
        (TlsMode::Disable, "false"),
        (TlsMode::Prefer, "true"),
        (TlsMode::Require, "true"),
        (TlsMode::VerifyCa(made.authority.clone()), "true"),
        (TlsMode::VerifyCa(made.certificate.clone()), "true"),
    ] {
        let client = connect(&server.tcp(mode.clone()), ADMIN, Some(&password), "postgres", PATIENCE).await;
        let client = client.unwrap_or_else(|error| panic!("{mode:?}: {error:?}"));
        assert_eq!(one(&client, encrypted).await, expected, "{mode:?}");
        client.close().await;
    }

    for pem in [made.authority.clone(), made.certificate.clone()] {
        let renamed = server.tcp(TlsMode::VerifyFull(pem));
        let error = connect(&renamed, ADMIN, Some(&password), "postgres", PATIENCE).await.expect_err("another name");
        assert!(matches!(error, PgError::CannotConnect { .. }), "{error:?}");
    }
    for pem in [certificate("some.other.name").authority, String::new(), "-----BEGIN CERTIFICATE-----\nno\n".into()] {
        let stranger = server.tcp(TlsMode::VerifyCa(pem));
        let error = connect(&stranger, ADMIN, Some(&password), "postgres", PATIENCE).await.expect_err("not trusted");
        assert!(matches!(error, PgError::CannotConnect { .. }), "{error:?}");
        assert!(!error.is_transient(), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_names_the_host_is_believed_and_a_changed_password_is_seen() {
    let made = certificate("127.0.0.1");
    let server = encrypted_server(&made).await;
    let admin = server.admin("postgres").await;
    let password = SecretString::from("secret");
    let verifier = scram::verifier(&password);
    provision::set_password(&admin, ADMIN, &verifier).await.expect("set");
    let salt = scram::salt(&verifier).expect("a salt").to_owned();
    for mode in [
        TlsMode::VerifyFull(made.authority.clone()),
        TlsMode::VerifyFull(made.certificate.clone()),
        TlsMode::VerifyCa(made.authority.clone()),
        TlsMode::Require,
        TlsMode::Prefer,
        TlsMode::Disable,
    ] {
        let target = server.tcp(mode.clone());
        connect(&target, ADMIN, Some(&password), "postgres", PATIENCE).await.expect("a session").close().await;
        let begun = challenge(&target, ADMIN, "postgres", PATIENCE).await.expect("a challenge");
        assert_eq!(begun, Challenge::Salt(salt.clone()), "{mode:?}");
    }
    admin.batch("change it", &format!("ALTER ROLE \"{ADMIN}\" PASSWORD 'other'")).await.expect("changed");
    let begun = challenge(&server.tcp(TlsMode::Require), ADMIN, "postgres", PATIENCE).await.expect("a challenge");
    assert!(matches!(&begun, Challenge::Salt(other) if *other != salt), "{begun:?}");
    let stranger = server.tcp(TlsMode::VerifyFull(certificate("127.0.0.1").authority));
    challenge(&stranger, ADMIN, "postgres", PATIENCE).await.expect_err("not trusted");
}

#[tokio::test]
async fn a_server_without_tls_is_spoken_to_in_the_clear_only_where_that_is_allowed() {
    let server = Server::start("").await;
    let password = SecretString::from("secret");
    let admin = server.admin("postgres").await;
    provision::set_password(&admin, ADMIN, &scram::verifier(&password)).await.expect("set");
    let target = server.tcp(TlsMode::Prefer);
    connect(&target, ADMIN, Some(&password), "postgres", PATIENCE).await.expect("in the clear").close().await;
    let begun = challenge(&target, ADMIN, "postgres", PATIENCE).await.expect("a challenge");
    assert!(matches!(begun, Challenge::Salt(_)), "{begun:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let server = Server::start("").await;
    let error = connect(&server.tcp(TlsMode::Require), ADMIN, None, "postgres", PATIENCE).await.expect_err("no TLS");
    assert!(matches!(error, PgError::CannotConnect { .. }), "{error:?}");
    assert!(!error.is_transient(), "{error:?}");
}
