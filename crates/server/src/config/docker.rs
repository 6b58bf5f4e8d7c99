//! The container engine, and what containers are given.

use super::ConfigError;
use pgdb_runtime::docker::{DockerConfig, Endpoint, ImageName, PullPolicy};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything about containers that can be set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerOptions {
    /// Where the engine listens, as `DOCKER_HOST` has it.
    pub host: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: Option<PathBuf>,
    /// Whether TCP is TLS; anything but an empty text says so.
    pub tls_verify: Option<String>,
    /// The image, with `{major}` in it.
    pub image: Option<String>,
    /// `missing`, `always` or `never`.
    pub pull: Option<String>,
    /// A folder with `config.json`, as `docker login` writes it.
    pub client_config: Option<PathBuf>,
    /// What stands before the names of containers and volumes.
    pub prefix: Option<String>,
    /// The network that containers join.
    pub network: Option<String>,
    /// Processors for each container.
    pub cpus: Option<f64>,
    /// `/dev/shm` of each container, in MiB.
    pub shm_mb: Option<u64>,
    /// The driver of volumes.
    pub volume_driver: Option<String>,
    /// What the driver calls a volume's size.
    pub volume_size_option: Option<String>,
    /// The host by which the daemon reaches published ports.
    pub connect_host: Option<String>,
    /// Seconds until a server has to accept connections.
    pub start_timeout_s: Option<u64>,
}

impl DockerOptions {
    /// What is given here, and for the rest what `file` says.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            host: self.host.or(file.host),
            cert_path: self.cert_path.or(file.cert_path),
            tls_verify: self.tls_verify.or(file.tls_verify),
            image: self.image.or(file.image),
            pull: self.pull.or(file.pull),
            client_config: self.client_config.or(file.client_config),
            prefix: self.prefix.or(file.prefix),
            network: self.network.or(file.network),
            cpus: self.cpus.or(file.cpus),
            shm_mb: self.shm_mb.or(file.shm_mb),
            volume_driver: self.volume_driver.or(file.volume_driver),
            volume_size_option: self.volume_size_option.or(file.volume_size_option),
            connect_host: self.connect_host.or(file.connect_host),
            start_timeout_s: self.start_timeout_s.or(file.start_timeout_s),
        }
    }

    /// Fills in defaults and checks everything. The daemon's own name in the engine is put in later: it is in its state.
    pub(super) fn resolve(self, home: Option<&Path>) -> Result<DockerConfig, ConfigError> {
        let wrong = |name: &'static str| move |why: String| ConfigError::Value { name, why };
        let host = self.host.filter(|host| !host.is_empty()).unwrap_or_else(|| Endpoint::default().host);
        let known = ["unix://", "tcp://", "http://", "https://"];
        if !known.iter().any(|scheme| host.starts_with(scheme)) {
            let why = format!("'{host}' is not an engine's address; it begins with one of {}", known.join(", "));
            return Err(ConfigError::Value { name: "docker.host", why });
        }
        let remote = !host.starts_with("unix://");
        let encrypted =
            remote && (host.starts_with("https://") || self.tls_verify.is_some_and(|text| !text.is_empty()));
        let folder = self.cert_path.or_else(|| Some(home?.join(".docker")));
        let tls = match (encrypted, folder) {
            (false, _) => None,
            (true, Some(folder)) => Some(folder),
            (true, None) => {
                let why = "TLS to the engine needs a folder with ca.pem, cert.pem and key.pem".to_owned();
                return Err(ConfigError::Value { name: "docker.cert_path", why });
            }
        };
        let prefix = self.prefix.unwrap_or_else(|| "pgdb-".to_owned());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if prefix.is_empty() || prefix.len() > 40 || prefix.starts_with('-') || !prefix.bytes().all(plain) {
            let why = format!("'{prefix}' has to be 1 to 40 lower-case letters, digits and '-', not '-' first");
            return Err(ConfigError::Value { name: "docker.prefix", why });
        }
        if self.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
            let why = "it has to be from 0.01 to 1024".to_owned();
            return Err(ConfigError::Value { name: "docker.cpus", why });
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let network = given(self.network);
        // Ports are published on an address that was chosen; these have none, or the whole machine's.
        if network.as_deref().is_some_and(|name| matches!(name, "host" | "none") || name.starts_with("container:")) {
            let why = "it has to be a network that publishes ports: bridge, or one that `docker network create` made"
                .to_owned();
            return Err(ConfigError::Value { name: "docker.network", why });
        }
        Ok(DockerConfig {
            endpoint: Endpoint { host, tls },
            daemon: String::new(),
            prefix,
            image: given(self.image)
                .map_or_else(|| Ok(ImageName::default()), |name| name.parse())
                .map_err(wrong("docker.image"))?,
            pull: given(self.pull)
                .map_or_else(|| Ok(PullPolicy::default()), |policy| policy.parse())
                .map_err(wrong("docker.pull"))?,
            client_config: self.client_config.or_else(|| Some(home?.join(".docker"))),
            network,
            cpus: self.cpus,
            shm_mb: self.shm_mb.unwrap_or(256).clamp(1, 1 << 20),
            volume_driver: given(self.volume_driver),
            volume_size_option: given(self.volume_size_option),
            connect_host: given(self.connect_host),
            start_timeout: Duration::from_secs(self.start_timeout_s.unwrap_or(100).clamp(1, 3600)),
            stop_timeout: Duration::from_secs(60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: DockerOptions) -> Result<DockerConfig, String> {
        options.resolve(Some(Path::new("/home/ann"))).map_err(|error| error.to_string())
    }

    #[test]
    fn an_engine_is_found_as_its_own_client_finds_it() {
        let endpoint = |host: Option<&str>, verify: Option<&str>| {
            let options = DockerOptions {
                host: host.map(str::to_owned),
                tls_verify: verify.map(str::to_owned),
                ..DockerOptions::default()
            };
            resolve(options).map(|config| (config.endpoint.host, config.endpoint.tls))
        };
        let socket = "unix:///var/run/docker.sock".to_owned();
        assert_eq!(endpoint(None, None), Ok((socket.clone(), None)));
        assert_eq!(endpoint(Some(""), Some("1")), Ok((socket, None)));
        let tcp = "tcp://10.0.0.7:2376".to_owned();
        assert_eq!(endpoint(Some(&tcp), None), Ok((tcp.clone(), None)));
        assert_eq!(endpoint(Some(&tcp), Some("")), Ok((tcp.clone(), None)));
        assert_eq!(endpoint(Some(&tcp), Some("1")), Ok((tcp, Some("/home/ann/.docker".into()))));
        assert!(endpoint(Some("ssh://me@host"), None).is_err_and(|why| why.contains("unix://")));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let bad = |options: DockerOptions| resolve(options).err().unwrap_or_default();
        let text = |text: &str| Some(text.to_owned());
        assert!(bad(DockerOptions { pull: text("often"), ..Default::default() }).contains("never"));
        assert!(bad(DockerOptions { image: text("postgres"), ..Default::default() }).contains("{major}"));
        assert!(bad(DockerOptions { prefix: text("../"), ..Default::default() }).contains("docker.prefix"));
        assert!(bad(DockerOptions { cpus: Some(0.0), ..Default::default() }).contains("docker.cpus"));
    }
}
