//! `pgdb preview extend NUMBER DURATION`.

use super::Which;
use crate::commands::Context;
use clap::Args;
use pgdb_api::previews::{ExtendPreview, Preview};

/// Set how long a preview lives from now on.
#[derive(Debug, Args)]
pub(crate) struct Extend {
    #[command(flatten)]
    which: Which,
    /// From now: 12h, 14d, or never for as long as nobody deletes it.
    #[arg(value_name = "DURATION", value_parser = super::ttl)]
    ttl: String,
}

impl Extend {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = self.which.path("/extend")?;
        let item: Preview = cx.client.post(&path, &ExtendPreview { ttl: self.ttl }).await?;
        let until = item.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        cx.printer.either(&item, |printer| printer.line(format!("{}: expires {until}", item.db_name)))
    }
}
