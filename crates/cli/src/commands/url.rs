//! `pgdb url NAME`.

use super::Context;
use clap::Args;
use pgdb_api::instances::StatusItem;
use serde::Serialize;

/// The connection URL of a database.
#[derive(Debug, Args)]
pub(crate) struct Url {
    /// Its name.
    name: String,
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
        let database_url =
            if self.reveal { cx.revealed(&self.name).await?.database_url } else { masked(&cx.item(&self.name).await?) };
        let printed = Printed { database_url };
        cx.printer.either(&printed, |printer| printer.line(&printed.database_url))
    }
}

/// The URL with *** in the password's place.
pub(super) fn masked(item: &StatusItem) -> String {
    let sslmode = if item.tls { "require" } else { "disable" };
    let host = if item.host.contains(':') { format!("[{}]", item.host) } else { item.host.clone() };
    format!("postgres://{}:***@{host}:{}/{}?sslmode={sslmode}", item.user, item.host_port, item.db)
}
