//! `pgdb preview list`.

use super::query_of;
use crate::commands::Context;
use clap::Args;
use pgdb_api::previews::{Preview, PreviewsResponse};

/// Every preview.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those on this instance.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
    /// Only those of this template.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
}

impl List {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let query = query_of(self.on.as_deref(), self.template.as_deref());
        let previews: PreviewsResponse = cx.client.get(&format!("/v1/previews{query}")).await?;
        cx.printer.either(&previews, |printer| {
            if previews.items.is_empty() {
                printer.note("no previews; `pgdb preview ensure NUMBER` makes one");
                return;
            }
            let headings = ["NUMBER", "STATE", "DB", "USER", "TEMPLATE", "ON", "EXPIRES", "USED"];
            printer.table(&headings, previews.items.iter().map(row).collect());
            for preview in &previews.items {
                if let Some(reason) = &preview.reason {
                    printer.note(format!("{}: {reason}", preview.db_name));
                }
            }
        })
    }
}

fn row(preview: &Preview) -> Vec<String> {
    let time = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    vec![
        preview.number.to_string(),
        state(preview),
        preview.db_name.clone(),
        preview.app_user.clone(),
        preview.template.clone(),
        preview.on.clone().unwrap_or_else(|| "-".to_owned()),
        preview.expires_at.map_or_else(|| "never".to_owned(), time),
        time(preview.used_at),
    ]
}

/// The state, with what else a person should see at once.
pub(super) fn state(preview: &Preview) -> String {
    if preview.protected { format!("{}, protected", preview.state) } else { preview.state.clone() }
}
