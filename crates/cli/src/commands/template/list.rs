//! `pgdb template list`.

use super::query;
use crate::commands::Context;
use clap::Args;
use pgdb_api::templates::TemplateList;

/// Every template.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those on one instance.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
}

impl List {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let list: TemplateList = cx.client.get(&format!("/v1/templates{}", query(self.on.as_deref()))).await?;
        cx.printer.either(&list, |printer| {
            let rows = list.items.iter().map(|item| {
                let size = item.size_bytes.map(|bytes| format!("{} MB", bytes / 1_000_000)).unwrap_or_default();
                let state = match (&item.problem, item.exists, item.open) {
                    (Some(_), ..) => "unknown",
                    (None, false, _) => "missing",
                    (None, true, true) => "open",
                    (None, true, false) => "ready",
                };
                vec![
                    item.name.clone(),
                    item.on.clone().unwrap_or_else(|| "-".to_owned()),
                    state.to_owned(),
                    size,
                    item.strategy.clone().unwrap_or_default(),
                ]
            });
            printer.table(&["NAME", "ON", "STATE", "SIZE", "COPY"], rows.collect());
            for item in &list.items {
                if let Some(problem) = &item.problem {
                    let on = item.on.as_deref().unwrap_or("the configured server");
                    printer.note(format!("{} on {on} could not be looked at: {problem}", item.name));
                }
            }
        })
    }
}
