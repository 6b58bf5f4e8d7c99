//! `pgdb man`.

use crate::args::Cli;
use anyhow::Context as _;
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Manual pages.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A folder for a page per command; without it the main page goes to standard output.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Some(dir) = self.dir else {
            return Ok(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?);
        };
        let explain = || format!("could not write to {}", dir.display());
        std::fs::create_dir_all(&dir).with_context(explain)?;
        clap_mangen::generate_to(Cli::command(), &dir).with_context(explain)
    }
}
