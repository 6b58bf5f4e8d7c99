//! `pgdb infra bootstrap`.

use super::cloud::{duration, read_secret};
use super::init::set_default;
use super::{Context, explain, folder, interrupted};
use crate::error::Usage;
use crate::settings::ConfigFile;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use pgdb_core::infra::host_key::HostKey;
use pgdb_core::random;
use pgdb_infra::bootstrap::{Bootstrap as Asked, Engine, Installed, Program};
use pgdb_infra::ssh::Target;
use pgdb_server::config::strength::is_strong;
use pgdb_server::system::SystemEntropy;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Where a checkout is on the server, if it is not said.
const CHECKOUT: &str = "/opt/pgdb";

/// What the databases run in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineChoice {
    /// Containers of Docker, which is installed if it is missing.
    Docker,
    /// No containers: PostgreSQL's own programs, installed if they are missing.
    None,
}

/// Install pgdb on a server over SSH, as a service, and make it the default server of this command.
#[derive(Debug, Args)]
#[command(
    after_help = "This program is copied there, unless --repo-url or --path say what to build from. Run again, it brings what is \
                        installed up to date; the token and all settings stay unless you give others.\n\n\
                        The server's host key has to be known: `pgdb infra init` pins the one it gave the server, --host-key pins \
                        another, and what `ssh` knows already counts too. A key is never taken on trust."
)]
pub(crate) struct Bootstrap {
    /// The server's address or name.
    #[arg(long)]
    host: String,
    /// Build on the server, from a clone of this repository.
    #[arg(long, value_name = "URL")]
    repo_url: Option<String>,
    /// Build on the server, from the checkout in this folder there [default with --repo-url: /opt/pgdb].
    #[arg(long, value_name = "FOLDER")]
    path: Option<String>,
    /// Who logs in: root, or somebody who may use sudo without a password.
    #[arg(long, default_value = "root")]
    user: String,
    /// What clients are told the databases' host is [default: --host; of a daemon that is there, what it has].
    #[arg(long, value_name = "HOST")]
    public_host: Option<String>,
    /// Where pgdb listens, on every address [default: 8080; of a daemon that is there, what it has].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pgdb_port: Option<u16>,
    /// The daemon's token. Others on this machine can read arguments: --token-file is better.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<SecretString>,
    /// File with the daemon's token; - for standard input [default: a new one, or the one it has already].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What the databases run in [default: docker; of a daemon that is there, what it has].
    #[arg(long, value_enum)]
    engine: Option<EngineChoice>,
    /// Leave the provider's volumes alone: data stays, or begins, on the server's own disk.
    #[arg(long)]
    no_volume: bool,
    /// Where the server's sshd listens.
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: u16,
    /// The private key to log in with [default: as ssh does].
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The server's host key, such as 'ssh-ed25519 AAAA…'; it is pinned.
    #[arg(long, value_name = "KEY")]
    host_key: Option<String>,
    /// How long a server that starts is waited for.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    ssh_timeout: Duration,
}

/// The result, and the keys of `--json`.
#[derive(Serialize)]
struct Done<'a> {
    host: &'a str,
    url: &'a str,
    token: &'a str,
}

impl Bootstrap {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let asked = self.asked(cx)?;
        asked.check().map_err(explain)?;
        // What cannot be written is better known before.
        let mut config = ConfigFile::load()?;
        let folder = folder()?;
        let report = |line: &str| cx.printer.note(line);
        let installed = tokio::select! {
            installed = asked.run(&folder, &report) => installed.map_err(explain)?,
            () = interrupted() => anyhow::bail!("interrupted; run the same command again to go on"),
        };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let url = format!("{}://{host}:{}", if installed.tls { "https" } else { "http" }, installed.port);
        set_default(cx, &mut config, &url, installed.new)?;
        // Whether a certificate is right for this address is for whoever uses it to see.
        if let (false, Err(why)) = (installed.tls, reach(&url).await) {
            cx.printer.warn(format!(
                "pgdb answers on the server and not from here ({why}): does the firewall let this machine in? `pgdb infra init` \
                 with another --allow-cidr changes it"
            ));
        }
        self.print(cx, &installed, &url)
    }

    fn asked(&self, cx: &Context<'_>) -> anyhow::Result<Asked> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => {
                cx.printer
                    .warn("others on this machine could read the token in this command's arguments; use --token-file");
                Some(token.clone())
            }
            (None, Some(file)) => Some(read_secret(file)?.trim().to_owned().into()),
            (None, None) => None,
        };
        if token.as_ref().is_some_and(|token| !is_strong(token.expose_secret())) {
            let text = "this token has less than 128 bits, and the daemon will face a network; make one with `openssl rand -hex 32`";
            return Err(Usage(text.to_owned()).into());
        }
        let host_key = self.host_key.as_deref().map(|line| {
            HostKey::parse(line).ok_or_else(|| Usage("--host-key is a line such as 'ssh-ed25519 AAAA…'".to_owned()))
        });
        Ok(Asked {
            target: Target {
                host: self.host.clone(),
                port: self.ssh_port,
                user: self.user.clone(),
                identity: self.identity.clone(),
            },
            host_key: host_key.transpose()?,
            program: self.program()?,
            public_host: self.public_host.clone(),
            port: self.pgdb_port,
            token,
            new_token: random::secret(&SystemEntropy),
            engine: self.engine.map(|engine| match engine {
                EngineChoice::Docker => Engine::Docker,
                EngineChoice::None => Engine::None,
            }),
            volume: !self.no_volume,
            patience: self.ssh_timeout,
        })
    }

    fn program(&self) -> anyhow::Result<Program> {
        if self.repo_url.is_none() && self.path.is_none() {
            // The file itself, although an update may have replaced it meanwhile.
            let own = format!("/proc/{}/exe", std::process::id());
            let file = if std::path::Path::new(&own).exists() {
                own.into()
            } else {
                std::env::current_exe().context("this program cannot be found")?
            };
            return Ok(Program::File(file));
        }
        let path = self.path.clone().unwrap_or_else(|| CHECKOUT.to_owned());
        Ok(Program::Checkout { path, repo_url: self.repo_url.clone() })
    }

    fn print(&self, cx: &Context<'_>, installed: &Installed, url: &str) -> anyhow::Result<()> {
        let token = installed.token.expose_secret();
        let done = Done { host: &self.host, url, token };
        cx.printer.either(&done, |printer| {
            printer.line(format!("host: {}", self.host));
            printer.line(format!("url: {url}"));
            printer.line(format!("export PGDB_TOKEN={token}"));
            if installed.kept {
                printer.note("the token is the one that was there");
            }
            if !installed.tls {
                printer.note(
                    "the token goes over the network unencrypted until the daemon has a certificate; or use an SSH tunnel",
                );
            }
        })
    }
}

/// Whether the daemon answers to this machine too.
async fn reach(url: &str) -> Result<(), String> {
    pgdb_server::install_crypto();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().tls_certs_only([]).build();
    let client = client.map_err(|error| error.to_string())?;
    match client.get(format!("{url}/healthz")).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.status())),
        Err(error) if error.is_timeout() => Err("no answer in 5 s".to_owned()),
        Err(_) => Err("no connection".to_owned()),
    }
}
