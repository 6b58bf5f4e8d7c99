//! Where the files are.

use super::Context;
use super::lint::counted;
use crate::error::Usage;
use anyhow::Context as _;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::is_candidate;
use pgdb_server::migrations::directory::{self, Found, ReadError};
use std::path::{Path, PathBuf};

/// Where the files are.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The folder with the migrations, SCHEMA/NNN_name.sql.
    #[arg(long, env = "MIGRATIONS_DIR", value_name = "DIR", default_value = "migrations")]
    pub(crate) dir: PathBuf,
}

impl SourceArgs {
    /// The files in the order of their keys. Refuses to go on when one of the folder's has to be left out: whoever acts
    /// on all files must not take such a one for none.
    pub(crate) fn read(&self, cx: &Context<'_>) -> anyhow::Result<Vec<File>> {
        let found = self.find(cx)?;
        anyhow::ensure!(found.left_out.is_empty(), "nothing was done: {} cannot be used", count(&found.left_out));
        Ok(found.files)
    }

    /// The files in the order of their keys, and those that have to be left out, which are told.
    pub(crate) fn find(&self, cx: &Context<'_>) -> anyhow::Result<Found> {
        Self::told(cx, directory::read(&self.dir))
    }

    /// The same while something else is waited for, whose outcome is given too.
    pub(crate) async fn find_during<T>(
        &self,
        cx: &Context<'_>,
        other: impl Future<Output = T>,
    ) -> anyhow::Result<(Found, T)> {
        let dir = self.dir.clone();
        let reading = tokio::task::spawn_blocking(move || directory::read(&dir));
        let (found, outcome) = tokio::join!(reading, other);
        Ok((Self::told(cx, found?)?, outcome))
    }

    /// What there is to say where no file is: nothing odd in a new project, and the wrong folder where files were run.
    pub(crate) fn none(&self, cx: &Context<'_>, is_new: bool) -> anyhow::Result<()> {
        let dir = self.dir.display();
        anyhow::ensure!(
            is_new,
            "there is no migration in {dir}, and some were run on this database; name the right folder with --dir"
        );
        cx.printer.warn(format!("there is no migration in {dir}; `pgdb migrate new NAME` makes the first"));
        Ok(())
    }

    /// Refuses a file to be written that would be taken for a migration.
    pub(crate) fn refuse_among(&self, file: &Path) -> anyhow::Result<()> {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (Ok(parent), Ok(dir)) = (parent.canonicalize(), self.dir.canonicalize()) else { return Ok(()) };
        let is_migration = file.file_name().is_some_and(|name| is_candidate(&name.to_string_lossy()));
        if is_migration && parent.starts_with(&dir) {
            let (file, dir) = (file.display(), self.dir.display());
            return Err(
                Usage(format!("{file} would be a migration for the next run; write it outside of {dir}")).into()
            );
        }
        Ok(())
    }

    fn told(cx: &Context<'_>, found: Result<Found, ReadError>) -> anyhow::Result<Found> {
        let found = found.context("there are no migrations to be had; name the folder with --dir")?;
        for sentence in &found.left_out {
            cx.printer.warn(sentence);
        }
        Ok(found)
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(left_out: &[String]) -> String {
    counted(left_out.len(), "file")
}
