//! Putting pgdb on a server over SSH: look, send, install.
//!
//! What is done there is `remote/bootstrap.sh`, which runs the same `scripts/install.sh` that a person would. Secrets travel
//! on standard input alone.

use crate::Report;
use crate::error::Error;
use crate::known_hosts::KnownHosts;
use crate::place::replace;
use crate::ssh::{Ssh, Target};
use pgdb_core::infra::host_key::HostKey;
use secrecy::{ExposeSecret, SecretString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROBE: &str = include_str!("remote/probe.sh");
/// What is sent, with the names that it has there: the layout of the repository, which `install.sh` knows.
const SENT: [(&str, &str); 3] = [
    ("bootstrap.sh", include_str!("remote/bootstrap.sh")),
    ("scripts/install.sh", include_str!("../../../scripts/install.sh")),
    ("systemd/pgdb.service", include_str!("../../../systemd/pgdb.service")),
];
/// Where a new daemon listens if nobody says.
pub const DEFAULT_PORT: u16 = 8080;
/// Between two attempts to reach a server that is starting.
const PAUSE: Duration = Duration::from_secs(2);

/// What the databases run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Containers of Docker, which is installed if it is missing.
    Docker,
    /// No containers: PostgreSQL's own programs, installed if they are missing.
    None,
}

impl Engine {
    fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::None => "none",
        }
    }

    fn runtime(self) -> String {
        match self {
            Self::Docker => "docker",
            Self::None => "process",
        }
        .to_owned()
    }
}

/// The program that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// This file, sent there.
    File(PathBuf),
    /// One that is built there.
    Checkout {
        /// A folder on the server.
        path: String,
        /// Where it is cloned from, or brought up to date; without it the folder is taken as it is.
        repo_url: Option<String>,
    },
}

/// What somebody asked for.
#[derive(Debug)]
pub struct Bootstrap {
    /// The server.
    pub target: Target,
    /// Its host key, if it is told; from then on it is pinned.
    pub host_key: Option<HostKey>,
    /// What is installed.
    pub program: Program,
    /// What the daemon tells clients its databases' host is; without it as it was, or the target's host.
    pub public_host: Option<String>,
    /// Where the daemon listens, on every address; without it as it was, or [`DEFAULT_PORT`].
    pub port: Option<u16>,
    /// The daemon's token; without one the one it has already is kept, or this one taken.
    pub token: Option<SecretString>,
    /// Taken if there is no other.
    pub new_token: SecretString,
    /// What the databases run in; without it as it was, or Docker.
    pub engine: Option<Engine>,
    /// Put the data on the provider's volume, if there is one.
    pub volume: bool,
    /// How long a server that starts is waited for.
    pub patience: Duration,
}

/// A daemon that answers on its server.
#[derive(Debug)]
pub struct Installed {
    /// Its token.
    pub token: SecretString,
    /// It had it already.
    pub kept: bool,
    /// There was no daemon before.
    pub new: bool,
    /// Where it listens.
    pub port: u16,
    /// It speaks TLS.
    pub tls: bool,
}

/// What a server said of itself.
#[derive(Debug, Default)]
struct Probed {
    machine: String,
    root: String,
    folder: String,
    token: Option<SecretString>,
    /// A daemon is installed, ours or the original, with these settings. An empty one counts as absent.
    installed: bool,
    listen: Option<String>,
    runtime: Option<String>,
    tls: bool,
}

impl Bootstrap {
    /// What can be known to be wrong without asking the server.
    pub fn check(&self) -> Result<(), Error> {
        self.target.check()?;
        let host = self.public_host.as_ref().unwrap_or(&self.target.host);
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte)) {
            return Err(Error::Usage(format!("'{host}' is not a host's name or address")));
        }
        let plain = |token: &SecretString| {
            let token = token.expose_secret();
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte))
        };
        if self.token.as_ref().is_some_and(|token| !plain(token)) {
            return Err(Error::Usage("a token has letters, digits and -_.~+/= only".to_owned()));
        }
        let Program::Checkout { path, repo_url } = &self.program else { return Ok(()) };
        if !path.starts_with('/') || path.contains(['\n', '\0']) {
            return Err(Error::Usage(format!("'{path}' is not the path of a folder, from / on")));
        }
        let Some(url) = repo_url else { return Ok(()) };
        let user = url.split_once("://").and_then(|(scheme, rest)| {
            let (user, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
            Some((scheme, user))
        });
        // A token stands in a user's place too; only with SSH is it a mere name.
        if user.is_some_and(|(scheme, user)| user.contains(':') || !scheme.to_ascii_lowercase().contains("ssh")) {
            return Err(Error::Usage(
                "the URL of the repository has a user or a password before '@', which everybody on the server could read; \
                 clone it there yourself with a deploy key, and give --path alone"
                    .to_owned(),
            ));
        }
        if url.is_empty() || url.starts_with('-') || url.contains(char::is_whitespace) {
            return Err(Error::Usage(format!("'{url}' is not the URL of a repository")));
        }
        Ok(())
    }

    /// Installs pgdb, or brings what is installed up to date. `all` is the folder with the known hosts.
    pub async fn run(&self, all: &Path, report: Report<'_>) -> Result<Installed, Error> {
        self.check()?;
        let hosts = KnownHosts::of(all);
        if let Some(key) = &self.host_key {
            hosts.pin(&self.target.host, self.target.port, key)?;
        }
        let ssh = Ssh::new(&self.target, &hosts)?;
        let probed = self.probe(&ssh, report).await?;
        let sent = self.send(&ssh, &probed, report).await;
        let installed = match sent {
            Ok(()) => self.install(&ssh, &probed, report).await,
            Err(error) => Err(error),
        };
        if installed.is_err() {
            // The script removes its folder itself, unless it was never begun. Nothing secret is in it.
            let _ = ssh.run(&format!("rm -rf {}", quote(&probed.folder)), &String::new().into(), None).await;
        }
        installed
    }

    /// Looks at the server; one that starts is waited for.
    async fn probe(&self, ssh: &Ssh<'_>, report: Report<'_>) -> Result<Probed, Error> {
        let until = tokio::time::Instant::now() + self.patience;
        let mut told = false;
        let answer = loop {
            let answer = ssh.run("sh", &PROBE.to_owned().into(), None).await?;
            if !answer.not_yet() || tokio::time::Instant::now() >= until {
                break answer;
            }
            if !told {
                report("waiting for the server's SSH");
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let text = answer.fine(&self.target, "look at the server")?;
        let mut probed = Probed::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("machine", machine)) => machine.clone_into(&mut probed.machine),
                Some(("root", root)) => root.clone_into(&mut probed.root),
                Some(("folder", folder)) => folder.clone_into(&mut probed.folder),
                Some(("installed", _)) => probed.installed = true,
                Some(("token", token)) => probed.token = Some(token.to_owned().into()),
                Some(("listen", listen)) => probed.listen = Some(listen.to_owned()),
                Some(("runtime", runtime)) => probed.runtime = Some(runtime.to_owned()),
                Some(("tls", _)) => probed.tls = true,
                // What a login script prints.
                _ => {}
            }
        }
        if !probed.folder.starts_with("/tmp/pgdb-bootstrap.") {
            return Err(Error::Tool(format!(
                "{} did not say what was asked; is its shell a usual one?",
                self.target.host
            )));
        }
        Ok(probed)
    }

    /// Sends the program and the scripts.
    async fn send(&self, ssh: &Ssh<'_>, probed: &Probed, report: Report<'_>) -> Result<(), Error> {
        let staging = tempfile::tempdir().map_err(Error::file("make a folder for what is sent"))?;
        for (name, text) in SENT {
            let file = staging.path().join(name);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(Error::file("make a folder for what is sent"))?;
            }
            replace(&file, text)?;
        }
        let mut paths: Vec<PathBuf> =
            ["bootstrap.sh", "scripts", "systemd"].map(|name| staging.path().join(name)).to_vec();
        if let Program::File(binary) = &self.program {
            if probed.machine != std::env::consts::ARCH {
                return Err(Error::Usage(format!(
                    "this pgdb is for {}, and the server is {}; build it there with --repo-url",
                    std::env::consts::ARCH,
                    probed.machine
                )));
            }
            let link = staging.path().join("pgdb");
            std::os::unix::fs::symlink(binary, &link).map_err(Error::file("prepare the program"))?;
            paths.push(link);
        }
        report("sending pgdb");
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        ssh.copy(&paths, &probed.folder).await?.fine(&self.target, "send files").map(|_| ())
    }

    async fn install(&self, ssh: &Ssh<'_>, probed: &Probed, report: Report<'_>) -> Result<Installed, Error> {
        let (token, kept) = match (&self.token, &probed.token) {
            (Some(token), _) => (token, false),
            (None, Some(token)) => (token, true),
            (None, None) if probed.installed => {
                return Err(Error::Usage(format!(
                    "a daemon is installed on {}, and its token cannot be read there: give it with --token-file, or its clients \
                     will be refused",
                    self.target.host
                )));
            }
            (None, None) => (&self.new_token, false),
        };
        let mut command = format!(
            "{} bash {} --engine {}",
            probed.root,
            quote(&format!("{}/bootstrap.sh", probed.folder)),
            self.engine_on(probed).word()
        );
        if !self.volume {
            command.push_str(" --volume no");
        }
        if let Program::Checkout { path, repo_url } = &self.program {
            command.push_str(&format!(" --path {}", quote(path)));
            if let Some(url) = repo_url {
                command.push_str(&format!(" --repo-url {}", quote(url)));
            }
        }
        let answer = ssh.run(command.trim_start(), &self.settings(token, probed), Some(report)).await?;
        answer.fine(&self.target, "install pgdb")?;
        let listens = || probed.listen.as_ref()?.rsplit_once(':')?.1.parse().ok();
        let port = self.port.or_else(listens).unwrap_or(DEFAULT_PORT);
        Ok(Installed { token: token.clone(), kept, new: !probed.installed, port, tls: probed.tls })
    }

    fn engine_on(&self, probed: &Probed) -> Engine {
        self.engine.unwrap_or(match probed.runtime.as_deref() {
            Some("docker") => Engine::Docker,
            _ if probed.installed => Engine::None,
            _ => Engine::Docker,
        })
    }

    /// The daemon's settings. One that is installed keeps its own unless it was asked for another.
    fn settings(&self, token: &SecretString, probed: &Probed) -> SecretString {
        let mut settings = format!("PGDB_TOKEN={}\n", token.expose_secret());
        let or_new = |given: Option<String>, new: &dyn Fn() -> String| given.or_else(|| (!probed.installed).then(new));
        for (name, value) in [
            ("PGDB_LISTEN", or_new(self.port.map(|port| format!(":{port}")), &|| format!(":{DEFAULT_PORT}"))),
            ("PGDB_PUBLIC_HOST", or_new(self.public_host.clone(), &|| self.target.host.clone())),
            ("PGDB_RUNTIME", or_new(self.engine.map(Engine::runtime), &|| Engine::Docker.runtime())),
        ] {
            if let Some(value) = value {
                settings.push_str(&format!("{name}={value}\n"));
            }
        }
        settings.into()
    }
}

/// A word for the server's shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Bootstrap {
        Bootstrap {
            target: Target { host: "203.0.113.10".to_owned(), port: 22, user: "root".to_owned(), identity: None },
            host_key: None,
            program: Program::File("/bin/true".into()),
            public_host: Some("db.example.org".to_owned()),
            port: Some(8080),
            token: None,
            new_token: "new".to_owned().into(),
            engine: Some(Engine::Docker),
            volume: true,
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_a_shell_or_ssh_would_take_for_something_else_is_refused() {
        assert!(asked().check().is_ok());
        let checkout =
            |path: &str, url: &str| Program::Checkout { path: path.to_owned(), repo_url: Some(url.to_owned()) };
        let wrong: [&dyn Fn(&mut Bootstrap); 11] = [
            &|one| one.target.host = "-oProxyCommand=x".to_owned(),
            &|one| one.target.host = "a b".to_owned(),
            &|one| one.target.user = "root;x".to_owned(),
            &|one| one.public_host = Some("a\nPGDB_TOKEN=x".to_owned()),
            &|one| one.token = Some("a\"b".to_owned().into()),
            &|one| one.program = checkout("relative", "https://example.org/pgdb.git"),
            &|one| one.program = checkout("/opt/pgdb", "--upload-pack=x"),
            &|one| one.program = checkout("/opt/pgdb", "https://me:secret@example.org/pgdb.git"),
            &|one| one.program = checkout("/opt/pgdb", "https://ghp_token@example.org/pgdb.git"),
            &|one| one.program = checkout("/opt/pgdb", "ssh://git:secret@example.org/pgdb.git"),
            &|one| one.program = checkout("/opt/pgdb", ""),
        ];
        for (number, change) in wrong.iter().enumerate() {
            let mut one = asked();
            change(&mut one);
            assert!(matches!(one.check(), Err(Error::Usage(_))), "{number}");
        }
        for fine in ["https://example.org/a@b.git", "ssh://git@example.org/pgdb.git", "git@example.org:pgdb.git"] {
            let one = Bootstrap { program: checkout("/opt/pgdb", fine), ..asked() };
            assert!(one.check().is_ok(), "{fine}");
        }
        assert_eq!(quote("it's $(x)"), "'it'\\''s $(x)'");
    }

    #[test]
    fn a_daemon_that_is_there_keeps_what_nobody_changes() {
        let silent = Bootstrap { public_host: None, port: None, engine: None, ..asked() };
        let settings = |one: &Bootstrap, probed: &Probed| {
            let text = one.settings(&"t".to_owned().into(), probed).expose_secret().to_owned();
            (text.lines().skip(1).collect::<Vec<_>>().join(" "), one.engine_on(probed))
        };
        let installed = |runtime: Option<&str>| Probed {
            installed: true,
            runtime: runtime.map(str::to_owned),
            ..Probed::default()
        };
        assert_eq!(settings(&silent, &installed(None)), (String::new(), Engine::None));
        assert_eq!(settings(&silent, &installed(Some("docker"))), (String::new(), Engine::Docker));
        let all = "PGDB_LISTEN=:8080 PGDB_PUBLIC_HOST=db.example.org PGDB_RUNTIME=docker".to_owned();
        assert_eq!(settings(&asked(), &installed(Some("process"))), (all, Engine::Docker));
        let new = "PGDB_LISTEN=:8080 PGDB_PUBLIC_HOST=203.0.113.10 PGDB_RUNTIME=docker".to_owned();
        assert_eq!(settings(&silent, &Probed::default()), (new, Engine::Docker));
    }
}
