//! Which database.

use super::Context;
use crate::client::{Client, segment};
use crate::error::Usage;
use crate::settings::Server;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::instances::StatusItem;
use pgdb_core::name::InstanceName;
use pgdb_pg::migrate::session::Login;
use pgdb_pg::url;
use std::path::PathBuf;

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Its URL. One with a password is better given in the environment or in a file.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A file that holds the URL.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE", conflicts_with = "on")]
    database_url_file: Option<PathBuf>,
    /// A database of the daemon, by its name.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
}

impl ConnectionArgs {
    /// Where to log in.
    pub(crate) async fn login(&self, cx: &Context<'_>) -> anyhow::Result<Login> {
        let url = match (&self.on, &self.database_url_file, &self.database_url) {
            (Some(name), _, _) => instance(cx, name).await?,
            (None, Some(file), _) => std::fs::read_to_string(file)
                .with_context(|| format!("could not read {}", file.display()))?
                .trim()
                .to_owned(),
            (None, None, Some(url)) => url.clone(),
            (None, None, None) => {
                let which = "which database? Set DATABASE_URL, or use --database-url, --database-url-file or --on NAME";
                return Err(Usage(which.to_owned()).into());
            }
        };
        let parsed = url::parse(&url).map_err(|error| Usage(error.to_string()))?;
        if matches!(parsed.sslmode, "require") {
            pgdb_server::install_crypto();
        }
        Ok(parsed.into())
    }
}

/// The URL of a database of the daemon.
async fn instance(cx: &Context<'_>, name: &str) -> anyhow::Result<String> {
    let name = InstanceName::parse(name).map_err(|error| Usage(error.to_string()))?;
    let client = Client::new(Server::resolve(cx.global)?, cx.global.wait_timeout)?;
    let item: StatusItem = client.get(&format!("/v1/db/{}", segment(name.as_str()))).await?;
    anyhow::ensure!(!item.password.is_empty(), "this token may not see passwords; it lacks the scope instances:reveal");
    Ok(item.database_url)
}
