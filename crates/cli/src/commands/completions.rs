//! `pgdb completions SHELL`.

use crate::args::Cli;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;

/// Completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "  pgdb completions bash > /etc/bash_completion.d/pgdb")]
pub(crate) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // By way of memory, for clap panics where nobody reads what it writes.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pgdb", &mut text);
        Ok(std::io::stdout().write_all(&text)?)
    }
}
