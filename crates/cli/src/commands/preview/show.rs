//! `pgdb preview show NUMBER`.

use super::Which;
use super::connect::masked;
use super::list::state;
use crate::commands::Context;
use clap::Args;
use pgdb_api::previews::Preview;

/// Everything about one preview.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
    /// Show the password too.
    #[arg(long)]
    reveal: bool,
}

impl Show {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let mut item = self.which.item(cx).await?;
        if !self.reveal {
            item.database_url = masked(&item);
            item.app_password = "***".to_owned();
        }
        print(cx, &item)
    }
}

/// One preview, a line a fact.
pub(super) fn print(cx: &Context<'_>, item: &Preview) -> anyhow::Result<()> {
    cx.printer.either(item, |printer| {
        let labels: Vec<String> = item.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let facts = [
            ("number", item.number.to_string()),
            ("state", state(item)),
            ("reason", item.reason.clone().unwrap_or_default()),
            ("template", item.template.clone()),
            ("generation", item.generation.to_string()),
            ("on", item.on.clone().unwrap_or_default()),
            ("host", item.host.clone()),
            ("port", item.port.to_string()),
            ("db", item.db_name.clone()),
            ("user", item.app_user.clone()),
            ("password", item.app_password.clone()),
            ("DATABASE_URL", item.database_url.clone()),
            ("labels", labels.join(", ")),
            ("created", item.created_at.to_string()),
            ("used", item.used_at.to_string()),
            ("expires", item.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string())),
        ];
        for (fact, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            printer.line(format!("{fact}: {value}"));
        }
    })
}
