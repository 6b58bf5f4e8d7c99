//! How to reach the provider: the flags that several subcommands have.

use crate::args::by_name_alone;
use crate::error::Usage;
use anyhow::Context;
use clap::Args;
use pgdb_core::duration::parse_seconds;
use pgdb_infra::client::{Client, Settings};
use pgdb_server::system::SystemEntropy;
use secrecy::SecretString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the provider's API is when nobody says.
const ENDPOINT: &str = "https://api.hetzner.cloud/v1";
/// The variables that may hold the token, in this order.
const TOKENS: [&str; 2] = ["HCLOUD_TOKEN", "HETZNER_TOKEN"];

/// How to reach the provider.
#[derive(Debug, Args)]
#[command(next_help_heading = "The provider", mut_args = by_name_alone)]
pub(crate) struct Cloud {
    /// File with the project's token; - for standard input (also: HCLOUD_TOKEN or HETZNER_TOKEN).
    #[arg(long, value_name = "FILE")]
    hcloud_token_file: Option<PathBuf>,
    /// The API's address.
    #[arg(long, env = "HCLOUD_ENDPOINT", value_name = "URL", default_value = ENDPOINT)]
    hcloud_endpoint: String,
    /// Between two looks at what is being done; pauses before a new attempt grow from it.
    #[arg(long, env = "HCLOUD_POLL_INTERVAL", value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    poll_interval: Duration,
    /// For one answer of the API.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    request_timeout: Duration,
    /// For each thing that is being made or removed.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    action_timeout: Duration,
    /// How often a request is sent before it counts as failed.
    #[arg(long, value_name = "COUNT", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    attempts: u32,
}

impl Cloud {
    /// A client with the token of the environment, a file or standard input.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        pgdb_server::install_crypto();
        let settings = Settings {
            endpoint: self.hcloud_endpoint.clone(),
            token: self.token()?,
            request_timeout: self.request_timeout,
            poll: self.poll_interval,
            attempts: self.attempts,
            patience: self.action_timeout,
        };
        let client = Client::new(settings, Arc::new(SystemEntropy));
        client.map_err(super::explain)
    }

    fn token(&self) -> anyhow::Result<SecretString> {
        let text = match &self.hcloud_token_file {
            Some(path) => read_secret(path)?,
            None => TOKENS.iter().find_map(|name| std::env::var(name).ok().filter(|token| !token.trim().is_empty())).ok_or_else(
                || {
                    Usage(
                        "no token: set HCLOUD_TOKEN to one of the project with the permission Read & Write (its console, under \
                         Security), or name a file with --hcloud-token-file"
                            .to_owned(),
                    )
                },
            )?,
        };
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Usage("the token is empty or has characters that no token has".to_owned()).into());
        }
        Ok(token.to_owned().into())
    }
}

/// The content of a file, or of standard input.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("could not read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    }
    Ok(text)
}

/// `500ms`, or what [`parse_seconds`] reads.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Some(number) = text.strip_suffix("ms") {
        let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let ms: u64 = number.and_then(|number| number.parse().ok()).ok_or("write a number and ms, s, m, h or d")?;
        return Ok(Duration::from_millis(ms));
    }
    parse_seconds(text).map(Duration::from_secs).map_err(|error| error.to_string())
}
