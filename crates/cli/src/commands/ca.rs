//! `pgdb ca`.

use super::Context;
use clap::Args;

/// The certificate of the daemon's own authority, PEM; clients of databases with TLS can trust it.
#[derive(Debug, Args)]
#[command(after_help = "  pgdb ca > ca.pem\n  psql \"$DATABASE_URL&sslrootcert=ca.pem\"   (with sslmode=verify-full)")]
pub(crate) struct Ca {}

impl Ca {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let pem = cx.client.stream("/v1/ca", &()).await?.text().await?;
        if cx.printer.json {
            return cx.printer.document(&serde_json::json!({ "pem": pem }));
        }
        cx.printer.line(pem.trim_end());
        Ok(())
    }
}
