//! `pgdb migrate …`: a subcommand a file. Needs no daemon, unless `--on` names one of its databases.

mod connection;
mod drift;
mod lint;
mod run;
mod schema;
mod source;

use crate::args::Global;
use crate::printer::Printer;
use clap::Subcommand;

/// Schemas brought up to date, from files.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Run what has not been run.
    Run(run::Run),
    /// Tell what is dangerous about migrations before they run.
    Lint(lint::Lint),
    /// Compare the schema with what the files make.
    Drift(drift::Drift),
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
                Self::Lint(command) => command.run(&cx),
                Self::Drift(command) => command.run(&cx).await,
            }
        })
    }
}
