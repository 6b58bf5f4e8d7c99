//! `pgdb template build NAME`.

use super::{Which, told};
use crate::commands::Context;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::templates::{BUILD_LIMIT, BuildFile, BuildTemplate};
use reqwest::Method;
use std::fs;
use std::path::{Path, PathBuf};

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
        collect(&self.migrations, &self.migrations, &mut Vec::new(), &mut files)?;
        anyhow::ensure!(!files.is_empty(), "{} holds no .sql file", self.migrations.display());
        let seed = match &self.seed {
            Some(seed) => Some(BuildFile { name: seed.display().to_string(), sql: read(seed)? }),
            None => None,
        };
        let bytes: usize = files.iter().chain(&seed).map(|file| file.sql.len()).sum();
        anyhow::ensure!(
            bytes < BUILD_LIMIT,
            "the files hold {} MB, and at most {} MB can be built from; put the data into a database, and make the template \
             from that: pgdb template create --help",
            bytes / 1_000_000,
            BUILD_LIMIT / 1_000_000
        );
        let body = BuildTemplate { files, seed, force: self.force };
        let path = self.which.path("/build");
        let item = cx.perform(Method::POST, &path, Some(&body), async |_| self.which.item(cx).await).await?;
        told(cx, &item)
    }
}

/// Reads every script below a folder. `above` are the folders that it is in, so that a link back is found.
fn collect(root: &Path, folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<BuildFile>) -> anyhow::Result<()> {
    let real = fs::canonicalize(folder).with_context(|| format!("could not find {}", folder.display()))?;
    anyhow::ensure!(!above.contains(&real), "{} leads back to {}", folder.display(), real.display());
    above.push(real);
    let listed = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, above, files)?;
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = below.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned();
            files.push(BuildFile { name, sql: read(&path)? });
        }
    }
    above.pop();
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
