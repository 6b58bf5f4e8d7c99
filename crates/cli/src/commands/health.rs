//! `pgdb health`.

use super::Context;
use clap::Args;
use pgdb_api::health::Readiness;
use std::time::Duration;

/// Whether the daemon serves requests; 1 when it does not. Needs no token, so that a container's health check can ask.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Health {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let asked = cx.client.get::<Readiness>("/readiness");
        let Ok(answer) = tokio::time::timeout(Duration::from_secs(self.timeout), asked).await else {
            anyhow::bail!("the daemon did not answer within {} s; its log may say what it is at", self.timeout);
        };
        let readiness = answer?;
        cx.printer.either(&readiness, |printer| printer.line("ready"))
    }
}
