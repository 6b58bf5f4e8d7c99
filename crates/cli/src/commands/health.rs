//! `pgdb health`.

use super::Context;
use clap::Args;
use pgdb_api::health::Readiness;

/// Whether the daemon serves requests; 1 when it does not. Needs no token, so that a container's health check can ask.
#[derive(Debug, Args)]
pub(crate) struct Health {}

impl Health {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let readiness: Readiness = cx.client.get("/readiness").await?;
        cx.printer.either(&readiness, |printer| printer.line("ready"))
    }
}
