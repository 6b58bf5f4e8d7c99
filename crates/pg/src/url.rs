//! Connection URLs as people and other programs give them.

use crate::connect::{Target, TlsMode};
use secrecy::SecretString;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// What a connection URL says.
#[derive(Debug)]
pub struct ParsedUrl {
    /// Host name, address, or the folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// The role's password, if the URL holds one.
    pub password: Option<SecretString>,
    /// Database.
    pub db: String,
    /// What libpq calls `sslmode`: `disable`, `prefer` or `require`.
    pub sslmode: &'static str,
}

/// Why a URL cannot be used. Never quotes it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form.
    #[error("this is no PostgreSQL URL (postgres://ROLE:PASSWORD@HOST:PORT/DATABASE?sslmode=require)")]
    Malformed,
    /// A part is missing.
    #[error("the URL names no {0}")]
    Missing(&'static str),
    /// Several hosts.
    #[error("the URL names several hosts; give the one to read from")]
    SeveralHosts,
}

/// Reads a URL. `verify-ca` and `verify-full` are not told from `require`.
pub fn parse(url: &str) -> Result<ParsedUrl, UrlError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(UrlError::Malformed);
    }
    let config: Config = url.parse().map_err(|_| UrlError::Malformed)?;
    let host = match config.get_hosts() {
        [Host::Tcp(name)] => name.clone(),
        [Host::Unix(folder)] => folder.display().to_string(),
        [] => return Err(UrlError::Missing("host")),
        _ => return Err(UrlError::SeveralHosts),
    };
    let password = match config.get_password() {
        None => None,
        Some(bytes) => Some(String::from_utf8(bytes.to_vec()).map_err(|_| UrlError::Malformed)?.into()),
    };
    Ok(ParsedUrl {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        user: config.get_user().ok_or(UrlError::Missing("role"))?.to_owned(),
        password,
        db: config.get_dbname().ok_or(UrlError::Missing("database"))?.to_owned(),
        sslmode: match config.get_ssl_mode() {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            _ => "prefer",
        },
    })
}

impl ParsedUrl {
    /// Where to connect. `prefer` is read as in the clear: a server that insists on TLS says so.
    pub fn target(&self) -> Target {
        if self.host.starts_with('/') {
            return Target::Socket { dir: PathBuf::from(&self.host), port: self.port };
        }
        let tls = if self.sslmode == "require" { TlsMode::Require } else { TlsMode::Disable };
        Target::Tcp { host: self.host.clone(), port: self.port, tls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_url_is_read_whole() {
        let url = parse("postgres://shop:p%40ss@db.example:6543/orders?sslmode=require").expect("a URL");
        assert_eq!((url.host.as_str(), url.port, url.user.as_str()), ("db.example", 6543, "shop"));
        assert_eq!((url.db.as_str(), url.sslmode), ("orders", "require"));
        assert_eq!(url.password.as_ref().expect("a password").expose_secret(), "p@ss");
        assert!(matches!(url.target(), Target::Tcp { tls: TlsMode::Require, .. }));
        let plain = parse("postgresql://shop@localhost/orders").expect("a URL");
        assert_eq!((plain.port, plain.sslmode, plain.password.is_none()), (5432, "prefer", true));
        let socket = parse("postgres://shop@%2Fvar%2Frun/orders").expect("a URL");
        assert_eq!(socket.target(), Target::Socket { dir: "/var/run".into(), port: 5432 });
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_quoted() {
        for (text, why) in [
            ("http://x/y", UrlError::Malformed),
            ("host=x user=y", UrlError::Malformed),
            ("postgres://shop@/orders", UrlError::Missing("host")),
            ("postgres://localhost/orders", UrlError::Missing("role")),
            ("postgres://shop@localhost", UrlError::Missing("database")),
            ("postgres://shop@a,b/orders", UrlError::SeveralHosts),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("shop"), "{error}");
        }
    }
}
