//! `pgdb template migrate NAME`.

use super::{Which, told};
use crate::commands::Context;
use crate::commands::migrate::files;
use clap::Args;
use pgdb_api::migrations::MigrationPolicy;
use pgdb_api::templates::MigrateTemplate;
use reqwest::Method;
use std::path::PathBuf;

/// Run migrations in a copy of a template, which then takes its place. One that holds them already stays as it is. Its
/// previews stay as they are; `pgdb migrate rollout` brings them up to date too.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    which: Which,
    /// Folder with migrations, SCHEMA/NNN_name.sql.
    #[arg(long, value_name = "DIR")]
    migrations: PathBuf,
}

impl Migrate {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let body = MigrateTemplate { files: files::read(&self.migrations)?, policy: MigrationPolicy::default() };
        let path = self.which.path("/migrate");
        let item = cx.perform(Method::POST, &path, Some(&body), async |_| self.which.item(cx).await).await?;
        told(cx, &item)
    }
}
