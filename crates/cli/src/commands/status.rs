//! `pgdb status`.

use super::Context;
use clap::Args;
use pgdb_api::instances::{StatusItem, StatusResponse};

/// Everything about every database.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let status: StatusResponse = cx.client.get("/v1/status").await?;
        cx.printer.either(&status, |printer| {
            if status.items.is_empty() {
                printer.note("no databases; `pgdb deploy` makes one");
                return;
            }
            let headings = ["NAME", "STATE", "HOST", "PORT", "DB", "USER", "VERSION", "SIZE", "CREATED"];
            printer.table(&headings, status.items.iter().map(row).collect());
            for item in &status.items {
                if let Some(reason) = &item.reason {
                    printer.note(format!("{}: {reason}", item.name));
                }
            }
        })
    }
}

fn row(item: &StatusItem) -> Vec<String> {
    vec![
        item.name.clone(),
        state(item),
        item.host.clone(),
        item.host_port.to_string(),
        item.db.clone(),
        item.user.clone(),
        item.postgres_version.to_string(),
        size(item),
        item.created_at.strftime("%Y-%m-%d %H:%M").to_string(),
    ]
}

/// The state, with what else a person should see at once.
pub(super) fn state(item: &StatusItem) -> String {
    let mut state = item.state.clone();
    for (set, word) in [(item.over_quota, "over quota"), (item.protected, "protected"), (item.tls, "tls")] {
        if set {
            state = format!("{state}, {word}");
        }
    }
    state
}

fn size(item: &StatusItem) -> String {
    let used = item.disk_bytes.map(|bytes| format!("{} MB", bytes / 1_000_000));
    match (used, item.size_gb) {
        (Some(used), Some(size)) => format!("{used} of {size} GB"),
        (Some(used), None) => used,
        (None, Some(size)) => format!("{size} GB"),
        (None, None) => "-".to_owned(),
    }
}
