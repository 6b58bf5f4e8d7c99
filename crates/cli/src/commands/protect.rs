//! `pgdb protect NAME` and `pgdb unprotect NAME`.

use super::Context;
use clap::Args;
use pgdb_api::instances::StatusItem;

// Both commands; what they say of themselves is at their names.
#[derive(Debug, Args)]
pub(crate) struct Protect {
    /// Its name.
    name: String,
}

impl Protect {
    pub(crate) async fn run(self, cx: &Context<'_>, protected: bool) -> anyhow::Result<()> {
        let verb = if protected { "/protect" } else { "/unprotect" };
        let item: StatusItem = cx.client.post_empty(&cx.path(&self.name, verb)?).await?;
        let word = if item.protected { "protected" } else { "not protected" };
        cx.printer.either(&item, |printer| printer.line(format!("{}: {word}", item.name)))
    }
}
