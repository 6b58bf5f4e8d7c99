//! `pgdb preview reset NUMBER`.

use super::Which;
use crate::commands::{Context, NOTHING};
use clap::Args;
use pgdb_api::previews::Preview;
use reqwest::Method;

/// Throw away what a preview holds and make it anew from its template.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    which: Which,
}

impl Reset {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = self.which.path("/reset")?;
        cx.confirm(&format!("Throw away ALL DATA of preview {}?", self.which.number()?))?;
        let item: Preview = cx.perform(Method::POST, &path, NOTHING, async |_| self.which.item(cx).await).await?;
        cx.printer.either(&item, |printer| printer.line(format!("{}: {}", item.db_name, item.state)))
    }
}
