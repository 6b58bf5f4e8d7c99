//! Where the files are.

use super::Context;
use super::lint::counted;
use crate::args::by_name_alone;
use anyhow::Context as _;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_server::migrations::directory::{self, Found, ReadError};
use std::path::PathBuf;

/// Where the files are.
#[derive(Debug, Args)]
#[command(mut_args = by_name_alone)]
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
