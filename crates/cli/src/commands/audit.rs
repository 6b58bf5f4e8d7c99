//! `pgdb audit`.

use super::Context;
use clap::Args;
use pgdb_api::audit::{AuditPage, AuditQuery};

/// Who did what, when, and how it ended; newest first.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How many entries.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    lines: u32,
    /// Only on this subject, such as instance/mydb.
    #[arg(long)]
    subject: Option<String>,
    /// Only entries older than this one.
    #[arg(long)]
    before: Option<i64>,
}

impl Audit {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let query = AuditQuery { before: self.before, limit: Some(self.lines), subject: self.subject };
        let page: AuditPage = cx.client.get_with("/v1/audit", &query).await?;
        cx.printer.either(&page, |printer| {
            let rows = page.items.iter().map(|entry| {
                let outcome =
                    entry.error.as_ref().map_or(entry.status.to_string(), |code| format!("{} {code}", entry.status));
                vec![
                    entry.id.to_string(),
                    entry.at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                    entry.actor.clone(),
                    entry.remote.clone(),
                    entry.action.clone(),
                    entry.subject.clone(),
                    outcome,
                ]
            });
            printer.table(&["ID", "AT", "WHO", "FROM", "WHAT", "ON", "OUTCOME"], rows.collect());
        })
    }
}
