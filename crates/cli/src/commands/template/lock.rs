//! `pgdb template lock NAME` and `unlock NAME`.

use super::Which;
use crate::commands::Context;
use clap::Args;
use pgdb_api::templates::Template;

// Both commands; what they say of themselves is at their names.
#[derive(Debug, Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    which: Which,
}

impl Lock {
    pub(crate) async fn run(self, cx: &Context<'_>, locked: bool) -> anyhow::Result<()> {
        let verb = if locked { "/lock" } else { "/unlock" };
        let item: Template = cx.client.post_empty(&self.which.path(verb)).await?;
        cx.printer.either(&item, |printer| {
            printer.line(format!("{}: {}", item.name, if item.locked { "locked" } else { "unlocked" }));
        })
    }
}
