//! `pgdb template define NAME`.

use super::Which;
use super::refresh::Definition;
use crate::commands::Context;
use clap::Args;
use pgdb_api::templates::Template;

/// Say how a template is made, and make nothing yet. What is left out stays as an earlier call has said it.
#[derive(Debug, Args)]
pub(crate) struct Define {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    definition: Definition,
}

impl Define {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item: Template = cx.client.put(&self.which.path(""), &self.definition.wire()?).await?;
        cx.printer.either(&item, |printer| printer.line(format!("{}: noted", item.name)))
    }
}
