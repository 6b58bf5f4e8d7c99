//! `pgdb migrate plan`.

use super::connection::ConnectionArgs;
use super::lint::counted;
use super::run::PolicyArgs;
use super::source::{SourceArgs, count};
use super::{Context, lint};
use crate::error::Found;
use clap::Args;
use pgdb_core::migration::plan::{Item, State, plan};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::lint::Finding;
use pgdb_pg::migrate::session::Session;
use pgdb_pg::migrate::split;
use pgdb_server::migrations::directory::Found as FoundFiles;
use serde::Serialize;

/// What `run` would do, without doing it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 whatever it finds, 1 failed, 2 wrong use; 3 with --exit-code, if there is something to \
                  run or in the way. `lint` and `run --lint` fail for what is dangerous."
)]
pub(crate) struct Plan {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// End with 3 if there is something to run or in the way.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Serialize)]
struct Printed<'a> {
    to_run: Vec<PrintedFile<'a>>,
    /// What keeps `run` from running anything.
    refused: Vec<PrintedRefusal<'a>>,
    /// What lies in the folder and cannot be used, which keeps `run` from running anything too; sentences.
    left_out: &'a [String],
}

#[derive(Debug, Serialize)]
struct PrintedFile<'a> {
    key: &'a str,
    state: State,
    out_of_order: bool,
    /// Whether it is one transaction.
    transaction: bool,
    /// `None` if the file cannot be cut up; `problem` says why.
    statements: Option<usize>,
    problem: Option<String>,
    /// What is dangerous about it, weighed by the tables that are there.
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct PrintedRefusal<'a> {
    key: &'a str,
    why: String,
}

impl Plan {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let FoundFiles { files, left_out } = self.source.find(cx)?;
        let session = Session::open(&self.connection.login(cx).await?).await?;
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        let plan = plan(&files, &rows, self.policy.policy());
        let mut to_run = Vec::new();
        for item in plan.to_run() {
            let findings = lint::weighed(&session, item.file).await?;
            to_run.push(PrintedFile { findings, ..printed(item) });
        }
        session.close().await;
        let printed = Printed {
            to_run,
            refused: plan
                .refusals()
                .map(|(item, refusal)| PrintedRefusal { key: item.file.key.as_str(), why: refusal.to_string() })
                .collect(),
            left_out: &left_out,
        };
        let nothing = printed.to_run.is_empty() && printed.refused.is_empty() && left_out.is_empty();
        cx.printer.either(&printed, |printer| {
            for file in &printed.to_run {
                let late = if file.out_of_order { ", out of order" } else { "" };
                let how = if file.transaction { "one transaction" } else { "statement by statement" };
                let count =
                    file.statements.map(|count| format!("{}, ", counted(count, "statement"))).unwrap_or_default();
                printer.line(format!("{}  {}{late}: {count}{how}", file.key, file.state.as_str().replace('_', " ")));
                // The lint says the same, with its place.
                if let Some(problem) =
                    file.problem.as_ref().filter(|_| !file.findings.iter().any(Finding::is_not_runnable))
                {
                    printer.line(format!("  {problem}"));
                }
                lint::lines(file.key, &file.findings).iter().for_each(|line| printer.line(line));
            }
            for refused in &printed.refused {
                printer.line(format!("{}  refused: {}", refused.key, refused.why));
            }
            if !left_out.is_empty() {
                printer.line(format!("Nothing runs while {} cannot be used.", count(&left_out)));
            }
            if nothing {
                printer.line("Nothing to run.");
            }
        })?;
        if self.exit_code && !nothing {
            return Err(Found(3).into());
        }
        Ok(())
    }
}

fn printed<'a>(item: &Item<'a>) -> PrintedFile<'a> {
    let content = item.file.content.as_ref().ok();
    let statements = content.map(|content| split::split(&content.sql));
    PrintedFile {
        key: item.file.key.as_str(),
        state: item.state,
        out_of_order: item.out_of_order,
        transaction: content.is_none_or(|content| !content.directives.no_transaction),
        statements: statements.as_ref().and_then(|statements| statements.as_ref().ok()).map(Vec::len),
        problem: statements.and_then(Result::err).map(|error| error.to_string()),
        findings: Vec::new(),
    }
}
