//! `pgdb template create NAME`.

use super::refresh::{Source, refresh};
use super::{Which, told};
use crate::commands::Context;
use clap::Args;

/// Say how a template is made, and make it from its source.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pgdb template create template_shop --source-url-file source.url --exclude-table-data 'public.audit_*' \\\n    \
                  --mask mask.sql --check 'SELECT count(*) > 100 FROM product'\n  \
                  pgdb template create template_shop --dump shop.dump\n\n\
                  A URL holds a password, and so is read from a file (- for standard input) or from PGDB_SOURCE_URL and\n\
                  PGDB_ADMIN_URL. What is left out stays as an earlier call has said it."
)]
pub(crate) struct Create {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    source: Source,
}

impl Create {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = refresh(cx, &self.which, self.source).await?;
        told(cx, &item)
    }
}
