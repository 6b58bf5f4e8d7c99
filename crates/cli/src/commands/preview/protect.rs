//! `pgdb preview protect NUMBER` and `pgdb preview unprotect NUMBER`.

use super::Which;
use crate::commands::Context;
use clap::Args;
use pgdb_api::previews::Preview;

// Both commands; what they say of themselves is at their names.
#[derive(Debug, Args)]
pub(crate) struct Protect {
    #[command(flatten)]
    which: Which,
}

impl Protect {
    pub(crate) async fn run(self, cx: &Context<'_>, protected: bool) -> anyhow::Result<()> {
        let verb = if protected { "/protect" } else { "/unprotect" };
        let item: Preview = cx.client.post_empty(&self.which.path(verb)?).await?;
        let word = if item.protected { "protected" } else { "not protected" };
        cx.printer.either(&item, |printer| printer.line(format!("{}: {word}", item.db_name)))
    }
}
