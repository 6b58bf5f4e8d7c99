//! Connection URLs as people and other programs give them.

use crate::connect::{Target, TlsMode};
use crate::sslmode::{self, SslmodeError};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

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
    /// Whether and how to encrypt; `prefer` where the URL says nothing, as libpq has it.
    pub tls: TlsMode,
    /// The file of `sslrootcert`, where it counts.
    pub sslrootcert: Option<PathBuf>,
    /// How long a login may take, if it says so (`connect_timeout`).
    pub connect_timeout: Option<Duration>,
}

/// Why a URL cannot be used. Never quotes it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form.
    #[error(
        "this is no PostgreSQL URL (postgres://ROLE:PASSWORD@HOST:PORT/DATABASE?sslmode=require); in a password write \
         @ : / ? # % as %40 %3A %2F %3F %23 %25"
    )]
    Malformed,
    /// A value is none of those that there can be.
    #[error("the URL's {0} cannot be read; in a password write @ : / ? # % as %40 %3A %2F %3F %23 %25")]
    Value(&'static str),
    /// A parameter for other programs.
    #[error("the URL has the parameter {0}, which is not known here; leave it out")]
    Parameter(&'static str),
    /// A part is missing.
    #[error("the URL names no {0}")]
    Missing(&'static str),
    /// Several hosts.
    #[error("the URL names several hosts; give the one to read from")]
    SeveralHosts,
    /// Its `sslmode` and `sslrootcert`.
    #[error(transparent)]
    Encryption(#[from] SslmodeError),
}

/// Reads a URL, and the file that its `sslrootcert` names, on the machine of this process.
pub fn parse(url: &str) -> Result<ParsedUrl, UrlError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(UrlError::Malformed);
    }
    let Split { rest, sslmode, sslrootcert } = split(url)?;
    let config: Config = rest.parse().map_err(|error: tokio_postgres::Error| unread(&error))?;
    // They could say where names are looked for: taking no notice would put things in other places.
    if config.get_options().is_some() {
        return Err(UrlError::Parameter("options"));
    }
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
    let encryption = sslmode::encryption(sslmode.as_deref().unwrap_or("prefer"), sslrootcert.as_deref())?;
    Ok(ParsedUrl {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        user: config.get_user().ok_or(UrlError::Missing("role"))?.to_owned(),
        password,
        db: config.get_dbname().ok_or(UrlError::Missing("database"))?.to_owned(),
        tls: encryption.mode,
        sslrootcert: encryption.rootcert,
        connect_timeout: config.get_connect_timeout().copied(),
    })
}

/// What of it cannot be read. What the driver says holds text of the URL, so only words that are expected there are told.
fn unread(error: &tokio_postgres::Error) -> UrlError {
    const VALUES: [&str; 8] = [
        "port",
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "target_session_attrs",
        "channel_binding",
        "hostaddr",
        "tcp_user_timeout",
    ];
    const OTHERS: [&str; 16] = [
        "pgbouncer",
        "schema",
        "connection_limit",
        "pool_timeout",
        "pool_mode",
        "gssencmode",
        "krbsrvname",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslcrl",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
        "prepareThreshold",
        "ssl",
    ];
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    let one_of = |known: &[&'static str]| known.iter().copied().find(|word| said.ends_with(&format!(" `{word}`")));
    match (one_of(&VALUES), one_of(&OTHERS)) {
        (Some(value), _) => UrlError::Value(value),
        (None, Some(parameter)) => UrlError::Parameter(parameter),
        (None, None) => UrlError::Malformed,
    }
}

/// A URL without the parameters that the driver does not know as libpq does.
#[derive(Default)]
struct Split {
    rest: String,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
}

fn split(url: &str) -> Result<Split, UrlError> {
    // A question mark before the first @ belongs to the password.
    let host = url.find('@').map_or(0, |at| at + 1);
    let Some(question) = url[host..].find('?').map(|at| host + at) else {
        return Ok(Split { rest: url.to_owned(), ..Split::default() });
    };
    let mut split = Split::default();
    let mut kept = Vec::new();
    for parameter in url[question + 1..].split('&') {
        let value = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UrlError::Malformed)?;
            Ok::<_, UrlError>(decoded.into_owned())
        };
        match parameter.split_once('=') {
            Some(("sslmode", text)) => split.sslmode = Some(value(text)?),
            Some(("sslrootcert", text)) => split.sslrootcert = Some(value(text)?.into()),
            _ => kept.push(parameter),
        }
    }
    split.rest = format!("{}?{}", &url[..question], kept.join("&"));
    Ok(split)
}

impl ParsedUrl {
    /// Where to connect.
    pub fn target(&self) -> Target {
        if self.host.starts_with('/') {
            return Target::Socket { dir: PathBuf::from(&self.host), port: self.port };
        }
        Target::Tcp { host: self.host.clone(), port: self.port, tls: self.tls.clone() }
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
        assert_eq!((url.db.as_str(), &url.tls), ("orders", &TlsMode::Require));
        assert_eq!(url.password.as_ref().expect("a password").expose_secret(), "p@ss");
        assert!(matches!(url.target(), Target::Tcp { tls: TlsMode::Require, .. }));
        let plain = parse("postgresql://shop@localhost/orders").expect("a URL");
        assert_eq!((plain.port, &plain.tls, plain.password.is_none()), (5432, &TlsMode::Prefer, true));
        let socket = parse("postgres://shop@%2Fvar%2Frun/orders").expect("a URL");
        assert_eq!(socket.target(), Target::Socket { dir: "/var/run".into(), port: 5432 });
    }

    #[test]
    fn a_certificate_is_read_from_the_file_that_the_url_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a ca.pem");
        std::fs::write(&file, "PEM").expect("written");
        let encoded = file.display().to_string().replace('/', "%2F").replace(' ', "%20");
        for (word, mode) in
            [("verify-full", TlsMode::VerifyFull("PEM".into())), ("verify-ca", TlsMode::VerifyCa("PEM".into()))]
        {
            let url = format!("postgres://shop:a?b@db/orders?sslrootcert={encoded}&connect_timeout=3&sslmode={word}");
            let url = parse(&url).expect("a URL");
            assert_eq!((&url.tls, url.tls.sslmode(), url.sslrootcert.as_ref()), (&mode, word, Some(&file)));
            assert_eq!(url.connect_timeout, Some(Duration::from_secs(3)));
            assert_eq!(url.target(), Target::Tcp { host: "db".into(), port: 5432, tls: mode });
        }
        let missing = parse("postgres://shop@db/orders?sslmode=verify-full").expect_err("no certificate");
        assert_eq!(missing, UrlError::Encryption(SslmodeError::RootMissing("verify-full")));
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
            ("postgres://shop@a:99999/orders", UrlError::Value("port")),
            ("postgres://shop:p@ss:shop/x@db/orders", UrlError::Value("port")),
            ("postgres://shop@db/orders?pgbouncer=true", UrlError::Parameter("pgbouncer")),
            ("postgres://shop@db/orders?options=-csearch_path%3Dshop", UrlError::Parameter("options")),
            ("postgres://shop@db/orders?shop=true", UrlError::Malformed),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("shop"), "{error}");
        }
    }
}
