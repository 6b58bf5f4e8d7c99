//! `pgdb config set|get|list|use`.

use crate::error::Usage;
use crate::printer::Printer;
use crate::settings::ConfigFile;
use clap::Subcommand;

/// Which daemons this command speaks to.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Config {
    /// Set a value: `pgdb config set server.default http://127.0.0.1:8080`.
    Set {
        /// server.ALIAS, or defaultServer.
        key: String,
        /// The URL, or the alias.
        value: String,
    },
    /// Show a value.
    Get {
        /// server.ALIAS, or defaultServer.
        key: String,
    },
    /// Show everything.
    List,
    /// Make an alias the default.
    Use {
        /// The alias.
        alias: String,
    },
}

impl Config {
    pub(crate) fn run(self, printer: &Printer) -> anyhow::Result<()> {
        let mut config = ConfigFile::load()?;
        match self {
            Self::Set { key, value } => {
                match key.strip_prefix("server.") {
                    Some(alias) if is_alias(alias) => {
                        let url = value.trim_end_matches('/');
                        if !url.starts_with("http://") && !url.starts_with("https://") {
                            return Err(Usage(format!(
                                "'{value}' is not a server's URL; it begins with http:// or https://"
                            ))
                            .into());
                        }
                        config.set_server(alias, url);
                    }
                    _ if key == "defaultServer" => return use_alias(&mut config, &value, printer),
                    _ => return Err(unknown(&key).into()),
                }
                config.save()?;
                printer.either(&serde_json::json!({ "ok": true }), |printer| {
                    printer.note(format!("saved in {}", config.path().display()));
                })
            }
            Self::Get { key } => {
                let value = match key.strip_prefix("server.") {
                    Some(alias) => config.server(alias).map(str::to_owned),
                    None if key == "defaultServer" => Some(config.default_server().to_owned()),
                    None => return Err(unknown(&key).into()),
                };
                let value = value.ok_or_else(|| anyhow::anyhow!("{key} is not set"))?;
                printer.either(&value, |printer| printer.line(&value))
            }
            Self::List => {
                let servers = config.servers();
                let document = serde_json::json!({
                    "defaultServer": config.default_server(),
                    "servers": servers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                });
                printer.either(&document, |printer| {
                    let rows = servers.iter().map(|(alias, url)| {
                        let default = if alias == config.default_server() { "default" } else { "" };
                        vec![alias.clone(), url.clone(), default.to_owned()]
                    });
                    printer.table(&["ALIAS", "URL", ""], rows.collect());
                })
            }
            Self::Use { alias } => use_alias(&mut config, &alias, printer),
        }
    }
}

fn use_alias(config: &mut ConfigFile, alias: &str, printer: &Printer) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.server(alias).is_some(),
        "there is no server '{alias}'; set it with `pgdb config set server.{alias} URL`"
    );
    config.set_default(alias);
    config.save()?;
    printer.either(&serde_json::json!({ "ok": true }), |_| {})
}

fn is_alias(alias: &str) -> bool {
    !alias.is_empty() && alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn unknown(key: &str) -> Usage {
    Usage(format!("'{key}' cannot be set; there are server.ALIAS and defaultServer"))
}
