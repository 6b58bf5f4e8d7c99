//! Which daemon to speak to, and with which token.

use crate::args::Global;
use anyhow::Context;
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The configuration file, kept as it is but for what we set.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    document: Map<String, Value>,
}

impl ConfigFile {
    /// Reads `~/.config/pgdb/config.json`; an absent file is an empty one.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let path = config_dir()?.join("config.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        if text.trim().is_empty() {
            return Ok(Self { path, document: Map::new() });
        }
        let document = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a JSON object; mend it or remove it", path.display()))?;
        Ok(Self { path, document })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The alias used when none is named.
    pub(crate) fn default_server(&self) -> &str {
        self.document.get("defaultServer").and_then(Value::as_str).unwrap_or("default")
    }

    /// The URL of an alias.
    pub(crate) fn server(&self, alias: &str) -> Option<&str> {
        self.document.get("servers")?.get(alias)?.as_str()
    }

    /// All aliases with their URLs.
    pub(crate) fn servers(&self) -> Vec<(String, String)> {
        let servers = self.document.get("servers").and_then(Value::as_object);
        let pairs = servers.into_iter().flatten();
        pairs.filter_map(|(alias, url)| Some((alias.clone(), url.as_str()?.to_owned()))).collect()
    }

    /// Gives an alias a URL; the first one becomes the default.
    pub(crate) fn set_server(&mut self, alias: &str, url: &str) {
        self.document.entry("defaultServer").or_insert_with(|| alias.into());
        let servers = self.document.entry("servers").or_insert_with(|| Map::new().into());
        if !servers.is_object() {
            *servers = Map::new().into();
        }
        if let Some(servers) = servers.as_object_mut() {
            servers.insert(alias.to_owned(), url.into());
        }
    }

    /// Takes an alias out.
    pub(crate) fn forget_server(&mut self, alias: &str) {
        if let Some(servers) = self.document.get_mut("servers").and_then(Value::as_object_mut) {
            servers.remove(alias);
        }
    }

    /// Makes an alias the default.
    pub(crate) fn set_default(&mut self, alias: &str) {
        self.document.insert("defaultServer".to_owned(), alias.into());
    }

    /// Replaces the file; only its owner can read it.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let explain = || format!("could not write {}", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(explain)?;
        let making = self.path.with_extension("json.making");
        let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making);
        let mut file = open.with_context(explain)?;
        writeln!(file, "{}", serde_json::to_string_pretty(&self.document)?).with_context(explain)?;
        std::fs::rename(&making, &self.path).with_context(explain)
    }
}

/// Where to send requests, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) token: Option<SecretString>,
    /// It is where a daemon with this environment listens: on this machine, whatever its address is.
    pub(crate) own: bool,
}

impl Server {
    /// From the flags, the environment and the configuration file, in this order.
    pub(crate) fn resolve(global: &Global) -> anyhow::Result<Self> {
        let given = match (&global.server, std::env::var("PGDB_SERVER_URL")) {
            (Some(server), _) if server.contains("://") => Some(server.clone()),
            (Some(alias), _) => {
                let config = ConfigFile::load()?;
                let url = config.server(alias).map(str::to_owned);
                Some(url.ok_or_else(|| crate::error::Usage(unknown_server(&config, alias)))?)
            }
            (None, Ok(url)) if !url.is_empty() => Some(url),
            (None, _) => {
                // Without a home there is no configuration, and the daemon of this machine is meant.
                let config = ConfigFile::load().unwrap_or_default();
                config.server(config.default_server()).map(str::to_owned)
            }
        };
        let own = given.is_none();
        let url = given.unwrap_or_else(local_url);
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(crate::error::Usage(format!(
                "'{url}' is not a server's URL; it begins with http:// or https://"
            ))
            .into());
        }
        let token = token(own || is_loopback(&url));
        Ok(Self { url, token, own })
    }

    /// Whether the daemon is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.own || is_loopback(&self.url)
    }
}

fn unknown_server(config: &ConfigFile, alias: &str) -> String {
    let known = config.servers().into_iter().map(|(alias, _)| alias).collect::<Vec<_>>().join(", ");
    let which = if known.is_empty() { "which names none".to_owned() } else { format!("which names {known}") };
    format!(
        "there is no server '{alias}' in the configuration, {which}; `pgdb config set server.{alias} URL` adds it, and --server \
         takes a URL too"
    )
}

/// The address that a daemon with the same environment listens on.
fn local_url() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let listen = set("PGDB_LISTEN").or_else(|| Some(format!(":{}", set("PORT")?)));
    url_of(listen.as_deref().unwrap_or(":8080"), set("PGDB_TLS_CERT").is_some())
}

/// How this machine reaches a daemon that listens there.
fn url_of(listen: &str, tls: bool) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or(("", "8080"));
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("{}://{host}:{port}", if tls { "https" } else { "http" })
}

/// The token of the environment, or for a daemon of this machine the one in its data directory; at last the one for
/// previews, which the daemon's own environment has.
fn token(local: bool) -> Option<SecretString> {
    let given = |name| std::env::var(name).ok();
    let kept = || if local { std::fs::read_to_string(data_dir().join("token")).ok() } else { None };
    let tried = [given("PGDB_TOKEN"), kept(), given("API_AUTH_TOKEN")];
    let token = tried.into_iter().flatten().map(|token| token.trim().to_owned()).find(|token| !token.is_empty());
    token.map(SecretString::from)
}

/// Where this command keeps what it remembers.
pub(crate) fn config_dir() -> anyhow::Result<PathBuf> {
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let base = base.context("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for the configuration")?;
    Ok(base.join("pgdb"))
}

/// The daemon's data directory, as the daemon itself chooses it.
pub(crate) fn data_dir() -> PathBuf {
    if let Some(given) = std::env::var_os("PGDB_DATA_DIR").filter(|given| !given.is_empty()) {
        return given.into();
    }
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/pgdb".into();
    }
    let base = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    base.unwrap_or_else(|| "/var/lib".into()).join("pgdb")
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_of_this_machine_is_asked_where_it_listens() {
        for (listen, tls, url) in [
            (":8080", false, "http://127.0.0.1:8080"),
            ("0.0.0.0:9", false, "http://127.0.0.1:9"),
            ("[::]:9", true, "https://[::1]:9"),
            ("127.0.0.1:9", true, "https://127.0.0.1:9"),
            ("10.0.0.5:9", false, "http://10.0.0.5:9"),
        ] {
            assert_eq!(url_of(listen, tls), url, "{listen}");
        }
    }

    #[test]
    fn a_token_file_is_only_for_this_machine() {
        for local in ["http://127.0.0.1:8080", "http://localhost", "https://[::1]:9/x"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["http://example.org:8080", "http://127.0.0.1.example.org", "http://10.0.0.1"] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
