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
        // A loopback address can be a tunnel to another machine, where process ids mean something else.
        let ours = cx.client.server.is_local() && runs(version.pid);
        let wanted = Shutdown { stop_databases: !self.keep_databases };
        let _: Health = cx.client.post("/v1/shutdown", &wanted).await?;
        let ended = async {
            while cx.client.get::<Health>("/healthz").await.is_ok() || (ours && runs(version.pid)) {
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
}

/// Whether a daemon with this process id runs on this machine.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // `PID (pgdb) S …`: one that has ended and that nobody has taken note of yet is gone as well.
    stat.is_ok_and(|stat| stat.contains("(pgdb) ") && !stat.contains("(pgdb) Z") && !stat.contains("(pgdb) X"))
}
