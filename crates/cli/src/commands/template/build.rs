//! `pgdb template build NAME`.

use super::{Which, told};
use crate::commands::Context;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::templates::{BuildFile, BuildTemplate};
use reqwest::Method;
use std::fs;
use std::path::{Path, PathBuf};

/// What the seed script is called, so that it comes after every folder and file.
const SEED: &str = "~seed";

/// Make a template anew by running every .sql file of a folder in the order of their paths' bytes, then a seed script.
/// One that was built from the same files stays as it is.
#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    which: Which,
    /// Folder with .sql files, also in folders below it.
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
        let mut files = Vec::new();
        collect(&self.migrations, &self.migrations, &mut files)?;
        anyhow::ensure!(!files.is_empty(), "{} holds no .sql file", self.migrations.display());
        if let Some(seed) = &self.seed {
            files.push(BuildFile { name: SEED.to_owned(), sql: read(seed)? });
        }
        let body = BuildTemplate { files, force: self.force };
        let path = self.which.path("/build");
        let item = cx.perform(Method::POST, &path, Some(&body), async |_| self.which.item(cx).await).await?;
        told(cx, &item)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<BuildFile>) -> anyhow::Result<()> {
    let listed = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = below.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned();
            files.push(BuildFile { name, sql: read(&path)? });
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
