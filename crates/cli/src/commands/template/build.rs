//! `pgdb template build NAME`.

use super::{Which, told};
use crate::commands::Context;
use crate::commands::migrate::files;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::migrations::SqlFile;
use pgdb_api::templates::BuildTemplate;
use reqwest::Method;
use std::fs;
use std::path::PathBuf;

/// Make a template anew by running a folder of migrations as `pgdb migrate run` does, then a seed script. One that was
/// built from the same files stays as it is.
#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    which: Which,
    /// Folder with migrations, SCHEMA/NNN_name.sql.
    #[arg(long, value_name = "DIR")]
    migrations: PathBuf,
    /// Script that fills the tables.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Build it even when the files are the same.
    #[arg(long)]
    force: bool,
}

impl Build {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let files = files::read(&self.migrations)?;
        let seed = match &self.seed {
            Some(seed) => {
                let sql = fs::read_to_string(seed).with_context(|| format!("could not read {}", seed.display()))?;
                Some(SqlFile { name: seed.display().to_string(), sql })
            }
            None => None,
        };
        let body = BuildTemplate { files, seed, force: self.force };
        let path = self.which.path("/build");
        let item = cx.perform(Method::POST, &path, Some(&body), async |_| self.which.item(cx).await).await?;
        told(cx, &item)
    }
}
