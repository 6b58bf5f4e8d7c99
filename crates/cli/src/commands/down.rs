//! `pgdb down`.

use super::Context;
use clap::Args;
use pgdb_api::admin::Shutdown;
use pgdb_api::health::{Health, Version};
use std::path::Path;
use std::time::Duration;

/// Longer than the daemon gives its databases to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// End the daemon and its PostgreSQL servers; they start again with it.
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Leave the PostgreSQL servers running.
    #[arg(long)]
    keep_databases: bool,
}

impl Down {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let version: Version = cx.client.get("/v1/version").await?;
        let wanted = Shutdown { stop_databases: !self.keep_databases };
        let _: Health = cx.client.post("/v1/shutdown", &wanted).await?;
        let ended = async {
            while self.is_there(cx, version.pid).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            anyhow::bail!(
                "the daemon (process {}) still runs after {} s; its log says why",
                version.pid,
                PATIENCE.as_secs()
            );
        }
        let ended = serde_json::json!({ "ok": true });
        cx.printer.either(&ended, |printer| printer.note("the daemon has ended"))
    }

    /// On this machine the process tells; elsewhere only whether somebody still answers.
    async fn is_there(&self, cx: &Context<'_>, pid: u32) -> bool {
        if cx.client.server.is_local() {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
            // `PID (pgdb) S …`: one that has ended and that nobody has taken note of yet is gone as well.
            return stat.is_ok_and(|stat| {
                stat.contains("(pgdb) ") && !stat.contains("(pgdb) Z") && !stat.contains("(pgdb) X")
            });
        }
        cx.client.get::<Health>("/healthz").await.is_ok()
    }
}
