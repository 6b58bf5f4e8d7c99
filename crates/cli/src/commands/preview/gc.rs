//! `pgdb preview gc`.

use super::query;
use crate::commands::Context;
use clap::Args;
use pgdb_api::previews::OrphansResponse;

/// Remove what no record accounts for: databases and roles under our prefixes, and records whose database is gone.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// On this instance, where it is not the configured server.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
}

impl Gc {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        if !self.dry_run {
            cx.confirm("Remove every orphan that `pgdb preview gc --dry-run` lists, WITH ITS DATA?")?;
        }
        let query = query(self.on.as_deref());
        let joint = if query.is_empty() { "?" } else { "&" };
        let path = format!("/v1/previews/gc{query}{joint}dry_run={}", self.dry_run);
        let found: OrphansResponse = cx.client.post_empty(&path).await?;
        cx.printer.either(&found, |printer| {
            if found.items.is_empty() {
                printer.note("nothing is left over");
                return;
            }
            let would = if self.dry_run { "would be " } else { "" };
            let rows = found.items.iter().map(|orphan| {
                let action = if orphan.action == "reported" {
                    orphan.action.clone()
                } else {
                    format!("{would}{}", orphan.action)
                };
                vec![orphan.kind.clone(), orphan.name.clone(), action, orphan.message.clone()]
            });
            printer.table(&["KIND", "NAME", "ACTION", "WHY"], rows.collect());
        })
    }
}
