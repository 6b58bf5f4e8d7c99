//! Where the files are.

use super::Context;
use anyhow::Context as _;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_server::migrations::directory;
use std::path::PathBuf;

/// Where the files are.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The folder with the migrations, SCHEMA/NNN_name.sql.
    #[arg(long, env = "MIGRATIONS_DIR", value_name = "DIR", default_value = "migrations")]
    pub(crate) dir: PathBuf,
}

impl SourceArgs {
    /// The files in the order of their keys; what is left out is told.
    pub(crate) fn read(&self, cx: &Context<'_>) -> anyhow::Result<Vec<File>> {
        let found =
            directory::read(&self.dir).context("there are no migrations to be had; name the folder with --dir")?;
        for sentence in &found.left_out {
            cx.printer.warn(sentence);
        }
        Ok(found.files)
    }
}
