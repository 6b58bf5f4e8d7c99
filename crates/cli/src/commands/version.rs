//! `pgdb version`.

use super::Context;
use clap::Args;
use pgdb_api::health::Version as Daemon;
use serde::Serialize;

/// The versions of this command and of the daemon.
#[derive(Debug, Args)]
pub(crate) struct Version {}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    server: Option<String>,
}

impl Version {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let server = cx.client.get::<Daemon>("/v1/version").await.ok().map(|daemon| daemon.version);
        let versions = Versions { client: env!("CARGO_PKG_VERSION"), server };
        cx.printer.either(&versions, |printer| {
            printer.line(format!("pgdb {}", versions.client));
            printer.line(format!("server {}", versions.server.as_deref().unwrap_or("not reached")));
        })
    }
}
