//! `pgdb template rollback NAME`.

use super::{Which, told};
use crate::commands::{Context, NOTHING};
use clap::Args;
use reqwest::Method;

/// Let a template and the one before it change places; once more goes forward again.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    which: Which,
}

impl Rollback {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = self.which.path("/rollback");
        let item = cx.perform(Method::POST, &path, NOTHING, async |_| self.which.item(cx).await).await?;
        told(cx, &item)
    }
}
