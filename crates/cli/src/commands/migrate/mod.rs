//! `pgdb migrate …`: a subcommand a file. Needs no daemon, unless `--on` names one of its databases.

mod connection;
mod run;
mod source;

use crate::args::Global;
use crate::printer::Printer;
use clap::Subcommand;

/// Schemas brought up to date, from files.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Run what has not been run.
    Run(run::Run),
}

/// What every subcommand gets.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) printer: &'a Printer,
}

impl Migrate {
    pub(crate) fn run(self, global: &Global, printer: &Printer) -> anyhow::Result<()> {
        let cx = Context { global, printer };
        // One session, and nothing else to do meanwhile.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Run(command) => command.run(&cx).await,
            }
        })
    }
}
