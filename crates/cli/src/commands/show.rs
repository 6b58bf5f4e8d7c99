//! `pgdb show NAME`.

use super::Context;
use super::status::state;
use super::url::masked;
use clap::Args;
use pgdb_api::instances::StatusItem;

/// Everything about one database.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name.
    name: String,
    /// Show the password too.
    #[arg(long)]
    reveal: bool,
}

impl Show {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let mut item = cx.item(&self.name).await?;
        if !self.reveal {
            item.database_url = masked(&item);
            item.password = "***".to_owned();
        }
        print(cx, &item)
    }
}

/// One database, a line a fact.
pub(super) fn print(cx: &Context<'_>, item: &StatusItem) -> anyhow::Result<()> {
    cx.printer.either(item, |printer| {
        let used = item.disk_bytes.map_or("not measured yet".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
        let holds = item.holds.clone().unwrap_or_default();
        let facts = [
            ("name", item.name.clone()),
            ("state", state(item)),
            ("reason", item.reason.clone().unwrap_or_default()),
            ("runtime", item.runtime.clone()),
            ("version", item.postgres_version.to_string()),
            ("host", item.host.clone()),
            ("port", item.host_port.to_string()),
            ("db", item.db.clone()),
            ("user", item.user.clone()),
            ("password", item.password.clone()),
            ("DATABASE_URL", item.database_url.clone()),
            ("size", item.size_gb.map_or("not limited".to_owned(), |size| format!("{size} GB"))),
            ("disk", used),
            ("id", item.container_id.clone()),
            ("volume", item.volume_name.clone()),
            ("created", item.created_at.to_string()),
            ("previews", holds.previews.join(", ")),
            ("templates", holds.templates.join(", ")),
        ];
        for (fact, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            printer.line(format!("{fact}: {value}"));
        }
    })
}
