//! `pgdb migrate …`: a subcommand a file. Needs no daemon but for `rollout`, and where `--on` names one of its databases.

mod baseline;
mod connection;
mod drift;
pub(super) mod files;
mod history;
mod import;
mod lines;
mod lint;
mod new;
mod plan;
mod repair;
mod rollout;
mod run;
mod schema;
mod source;
mod status;
mod validate;
mod watch;

use crate::args::Global;
use crate::printer::Printer;
use clap::Subcommand;

/// Schemas brought up to date, from files.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[command(
    after_help = "Files are SCHEMA/NNN_name.sql under --dir and run in the order of their names, each in one transaction \
                  with its row in the table pgdb.migrations.\n\n\
                  Exit status: 0 done or up to date, 1 failed, 2 wrong use, 3 pending (with --exit-code) \
                  or different (`drift`, always).\n\n\
                  There is no `down`: a new file takes a change back. What `run` would do is told by `plan`."
)]
pub(crate) enum Migrate {
    /// Run what has not been run.
    Run(run::Run),
    /// Bring many databases of the daemon up to date: instances, a template, its previews.
    Rollout(rollout::Rollout),
    /// Keep a database up to date with a ConfigMap or a folder, for as long as this runs: the sidecar.
    Watch(watch::Watch),
    /// Tell what is dangerous about migrations before they run.
    Lint(lint::Lint),
    /// Compare the schema with what the files make.
    Drift(drift::Drift),
    /// How every file stands to the database.
    Status(status::Status),
    /// What `run` would do, without doing it.
    Plan(plan::Plan),
    /// What is odd about the files and the ledger.
    Validate(validate::Validate),
    /// What was run, when, by whom, and what it locked.
    History(history::History),
    /// Make an empty file with the next number.
    New(new::New),
    /// Take changed files as they are now, and forget those that are gone.
    Repair(repair::Repair),
    /// Take files as run without running them.
    Baseline(baseline::Baseline),
}

/// What every subcommand gets.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) printer: &'a Printer,
}

impl Context<'_> {
    /// Asks a person to type yes, unless `--yes` or nobody is there to ask.
    fn confirm(&self, question: &str) -> anyhow::Result<()> {
        if self.global.yes { Ok(()) } else { self.printer.confirm(question) }
    }
}

/// What the ledger calls this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Migrate {
    pub(crate) fn run(self, global: &Global, printer: &Printer) -> anyhow::Result<()> {
        if let Self::Watch(command) = self {
            return command.run();
        }
        let cx = Context { global, printer };
        // One session, and nothing else to do meanwhile.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Run(command) => command.run(&cx).await,
                Self::Rollout(command) => command.run(&cx).await,
                Self::Watch(_) => Ok(()),
                Self::Lint(command) => command.run(&cx),
                Self::Drift(command) => command.run(&cx).await,
                Self::Status(command) => command.run(&cx).await,
                Self::Plan(command) => command.run(&cx).await,
                Self::Validate(command) => command.run(&cx).await,
                Self::History(command) => command.run(&cx).await,
                Self::New(command) => command.run(&cx),
                Self::Repair(command) => command.run(&cx).await,
                Self::Baseline(command) => command.run(&cx).await,
            }
        })
    }
}
