//! `pgdb preview psql NUMBER` and `pgdb preview url NUMBER`.

use super::Which;
use crate::commands::psql::{Connection, psql};
use crate::commands::{Context, runs};
use crate::error::Refused;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::previews::Preview;
use serde::Serialize;
use std::os::unix::process::CommandExt;

/// Open psql in a preview.
#[derive(Debug, Args)]
#[command(after_help = "Everything after -- goes to psql:\n  pgdb preview psql 123 -- -c 'select 1'")]
pub(crate) struct Psql {
    #[command(flatten)]
    which: Which,
    /// Arguments for psql.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Psql {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = self.which.item(cx).await?;
        if let Some(on) = &item.on {
            match cx.item(on).await {
                Ok(server) => runs(&server)?,
                // A token for previews alone may not look at it.
                Err(error) if error.is::<Refused>() => {}
                Err(error) => return Err(error),
            }
        }
        let connection = Connection {
            host: &item.host,
            port: item.port,
            user: &item.app_user,
            db: &item.db_name,
            password: &item.app_password,
            tls: is_encrypted(&item),
        };
        let error = psql(&connection)?.args(&self.args).exec();
        Err(error).context("could not run psql")
    }
}

/// The connection URL of a preview.
#[derive(Debug, Args)]
pub(crate) struct Url {
    #[command(flatten)]
    which: Which,
    /// With the password; without this it is ***.
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Serialize)]
struct Printed {
    #[serde(rename = "DATABASE_URL")]
    database_url: String,
}

impl Url {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = self.which.item(cx).await?;
        let printed = Printed { database_url: if self.reveal { item.database_url } else { masked(&item) } };
        cx.printer.either(&printed, |printer| printer.line(&printed.database_url))
    }
}

fn is_encrypted(item: &Preview) -> bool {
    item.database_url.ends_with("sslmode=require")
}

/// The URL with *** in the password's place. The password is safe in URLs as it is.
pub(super) fn masked(item: &Preview) -> String {
    if item.app_password.is_empty() {
        return item.database_url.clone();
    }
    item.database_url.replacen(&format!(":{}@", item.app_password), ":***@", 1)
}
