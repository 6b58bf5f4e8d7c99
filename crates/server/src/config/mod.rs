//! What the daemon was told: flags and environment first, then the configuration file, then defaults.
//!
//! Precedence of the address: `--listen`, `PGDB_LISTEN`, `--port`, `PORT`, then `listen` and `port` of the file.
//! Whoever calls fills [`Options`] from flags and environment; once those name an address in either way, the
//! file's `listen` and `port` do not count.

mod docker;
mod environment;
pub mod listen;
mod previews;
pub mod strength;

pub use docker::DockerOptions;
pub use environment::EnvSecrets;
pub use previews::{ExternalServer, GithubRepository, OrphanPolicy, PreviewConfig, PreviewOptions, TargetConfig};

use listen::Listen;
use pgdb_core::ports::PortRange;
use pgdb_runtime::docker::DockerConfig;
use secrecy::ExposeSecret;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be set. The configuration file has the same names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `ADDRESS:PORT`, or `:PORT` for every address.
    pub listen: Option<String>,
    /// Short for `listen = ":PORT"`.
    pub port: Option<u16>,
    /// Where everything is kept.
    pub data_dir: Option<PathBuf>,
    /// The host that connection URLs name; with it, databases listen on every address.
    pub public_host: Option<String>,
    /// Ports for databases, `FIRST-LAST`.
    pub port_range: Option<PortRange>,
    /// A folder with PostgreSQL installations, one per subfolder.
    pub engines_dir: Option<PathBuf>,
    /// What runs the databases: `process`, `docker` or `kubernetes`.
    pub runtime: Option<String>,
    /// The operating-system user of the databases when the daemon is root.
    pub run_as: Option<String>,
    /// PEM file with the certificate chain for the API.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its key.
    pub tls_key: Option<PathBuf>,
    /// How log lines look.
    pub log_format: Option<LogFormat>,
    /// Which log lines to write, such as `info` or `pgdb_server=debug`.
    pub log_level: Option<String>,
    /// Whether `/metrics` answers.
    pub metrics: Option<bool>,
    /// The configuration file. Not a key of the file itself.
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Further addresses that serve the same.
    pub extra_listeners: Option<Vec<String>>,
    /// The container engine.
    pub docker: DockerOptions,
    /// Previews.
    pub previews: PreviewOptions,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

impl std::str::FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(format!("'{text}' is not a log format: write json or text")),
        }
    }
}

/// What the options come to.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Said once the log is open: the token is too weak for what was asked.
    pub listen_warning: Option<String>,
    /// Where everything is kept; absolute.
    pub data_dir: PathBuf,
    /// The host that connection URLs name.
    pub public_host: Option<String>,
    /// Ports for databases.
    pub port_range: PortRange,
    /// A folder with PostgreSQL installations.
    pub engines_dir: Option<PathBuf>,
    /// What runs the databases.
    pub runtime: String,
    /// The operating-system user of the databases when the daemon is root.
    pub run_as: Option<String>,
    /// Certificate and key for the API.
    pub tls: Option<TlsFiles>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines to write.
    pub log_level: String,
    /// Whether `/metrics` answers.
    pub metrics: bool,
    /// The container engine.
    pub docker: DockerConfig,
    /// Previews.
    pub previews: PreviewConfig,
}

/// Certificate and key for the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
}

/// What the machine tells that options leave open.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Whether we are root.
    pub root: bool,
    /// `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// What a relative path is relative to.
    pub current_dir: PathBuf,
}

impl Surroundings {
    /// This process's.
    pub fn of_this_process() -> std::io::Result<Self> {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Self {
            root: nix::unistd::geteuid().is_root(),
            xdg_data_home: path("XDG_DATA_HOME").filter(|path| path.is_absolute()),
            home: path("HOME"),
            current_dir: std::env::current_dir()?,
        })
    }

    /// Where the data is kept when nobody says; the CLI looks for the token there too.
    pub fn default_data_dir(&self) -> Option<PathBuf> {
        if self.root {
            return Some(PathBuf::from("/var/lib/pgdb"));
        }
        let base = self.xdg_data_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/share")))?;
        Some(base.join("pgdb"))
    }
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file could not be read.
    #[error("could not read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file makes no sense.
    #[error("the configuration file {} is wrong: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// An address makes no sense.
    #[error("'{given}' is not an address to listen on: {why}")]
    Listen {
        /// What was given.
        given: String,
        /// Why.
        why: String,
    },
    /// A weak token would face a network.
    #[error(
        "{token} has less than 128 bits and must not face a network: listen on 127.0.0.1 instead of {address}, or set \
         a stronger token (openssl rand -hex 32)"
    )]
    WeakToken {
        /// The variable.
        token: String,
        /// Where it would have listened.
        address: SocketAddr,
    },
    /// No place for the data.
    #[error("no place for the data: HOME is not set; give --data-dir or PGDB_DATA_DIR")]
    NoDataDir,
    /// Half of a pair.
    #[error("TLS for the API needs both tls_cert and tls_key; only {given} is given")]
    HalfTls {
        /// Which one is there.
        given: &'static str,
    },
    /// A value makes no sense.
    #[error("{name}: {why}")]
    Value {
        /// The option.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Options {
    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string().trim().to_owned() })
    }

    /// What is given here, and for the rest what `file` says.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        let addressed = self.listen.is_some() || self.port.is_some();
        let (listen, port) = if addressed { (self.listen, self.port) } else { (file.listen, file.port) };
        Self {
            listen,
            port,
            data_dir: self.data_dir.or(file.data_dir),
            public_host: self.public_host.or(file.public_host),
            port_range: self.port_range.or(file.port_range),
            engines_dir: self.engines_dir.or(file.engines_dir),
            runtime: self.runtime.or(file.runtime),
            run_as: self.run_as.or(file.run_as),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            metrics: self.metrics.or(file.metrics),
            config: self.config,
            extra_listeners: self.extra_listeners.or(file.extra_listeners),
            docker: self.docker.or(file.docker),
            previews: self.previews.or(file.previews),
        }
    }

    /// Reads the configuration file if one is named, fills in defaults and checks everything.
    pub fn resolve(self, secrets: &EnvSecrets, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(Self::from_file).transpose()?.unwrap_or_default();
        let options = self.or(file);
        let weak =
            secrets.tokens().find(|(_, token)| !strength::is_strong(token.expose_secret())).map(|(name, _)| name);
        let extra = options.extra_listeners.unwrap_or_default();
        let (listen, listen_warning) = listen::resolve(options.listen.as_deref(), options.port, &extra, weak)?;
        let data_dir = options.data_dir.or_else(|| surroundings.default_data_dir()).ok_or(ConfigError::NoDataDir)?;
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::HalfTls { given: "tls_cert" }),
            (None, Some(_)) => return Err(ConfigError::HalfTls { given: "tls_key" }),
        };
        let runtime = options.runtime.unwrap_or_else(|| "process".to_owned());
        if !["process", "docker", "kubernetes"].contains(&runtime.as_str()) {
            return Err(ConfigError::Value {
                name: "runtime",
                why: format!("'{runtime}' is unknown; there are process, docker and kubernetes"),
            });
        }
        if let Some(host) = &options.public_host
            && (host.is_empty() || host.chars().any(|c| c.is_whitespace() || "/@?#".contains(c)))
        {
            return Err(ConfigError::Value {
                name: "public_host",
                why: format!("'{host}' is neither a host name nor an address"),
            });
        }
        Ok(Config {
            listen,
            listen_warning,
            data_dir: surroundings.current_dir.join(data_dir),
            public_host: options.public_host,
            port_range: options.port_range.unwrap_or_default(),
            engines_dir: options.engines_dir,
            runtime,
            run_as: options.run_as,
            tls,
            log_format: options.log_format.unwrap_or_default(),
            log_level: options.log_level.unwrap_or_else(|| "info".to_owned()),
            metrics: options.metrics.unwrap_or(true),
            docker: options.docker.resolve(surroundings.home.as_deref())?,
            previews: options.previews.resolve()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        Surroundings { root: false, xdg_data_home: None, home: Some("/home/ann".into()), current_dir: "/work".into() }
    }

    fn resolve(text: &str, flags: Options) -> Result<Config, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("pgdb.toml");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Options { config: Some(path), ..flags }
            .resolve(&EnvSecrets::default(), &user())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_data_dir_follows_who_runs_it() {
        let root = Surroundings { root: true, ..user() };
        assert_eq!(root.default_data_dir(), Some("/var/lib/pgdb".into()));
        assert_eq!(user().default_data_dir(), Some("/home/ann/.local/share/pgdb".into()));
        let xdg = Surroundings { xdg_data_home: Some("/x".into()), ..user() };
        assert_eq!(xdg.default_data_dir(), Some("/x/pgdb".into()));
        let homeless = Surroundings { home: None, ..user() };
        let error = Options::default().resolve(&EnvSecrets::default(), &homeless).err().map(|error| error.to_string());
        assert!(error.is_some_and(|message| message.contains("PGDB_DATA_DIR")));
    }

    #[test]
    fn flags_and_environment_win_over_the_file() {
        let file =
            "listen = '10.0.0.1:1'\nport_range = '20000-20010'\nlog_format = 'json'\nmetrics = false\ndata_dir = 'd'";
        let flags = Options { port: Some(9), metrics: Some(true), ..Options::default() };
        let config = resolve(file, flags);
        let config = config.as_ref().map(|config| {
            (
                config.listen.clone(),
                config.port_range.to_string(),
                config.log_format,
                config.metrics,
                config.data_dir.clone(),
            )
        });
        let expected =
            (vec![Listen::Everywhere(9)], "20000-20010".to_owned(), LogFormat::Json, true, PathBuf::from("/work/d"));
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let message = resolve("lissten = 'x'", Options::default()).err().unwrap_or_default();
        assert!(message.contains("lissten") && message.contains("line 1"), "{message}");
        assert!(resolve("tls_cert = 'x'", Options::default()).is_err_and(|message| message.contains("tls_key")));
        assert!(resolve("runtime = 'vm'", Options::default()).is_err_and(|message| message.contains("docker")));
        assert!(resolve("port_range = '9-1'", Options::default()).is_err_and(|message| message.contains("FIRST-LAST")));
        assert!(resolve("public_host = 'a/b'", Options::default()).is_err());
    }
}
