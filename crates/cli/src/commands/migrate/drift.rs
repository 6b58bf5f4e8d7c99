//! `pgdb migrate drift`.

use super::connection::ConnectionArgs;
use super::lint::counted;
use super::schema::pg_dump;
use super::source::SourceArgs;
use super::{Context, VERSION};
use crate::error::Found;
use anyhow::Context as _;
use clap::Args;
use pgdb_pg::migrate::check::{DriftReport, check};
use pgdb_pg::migrate::run::Options;
use pgdb_pg::migrate::session::Session;
use pgdb_pg::migrate::shared::Skipped;
use tokio::signal::unix::{SignalKind, signal};

/// Compare the schema with that of a new database, built from the files that were run.
#[derive(Debug, Args)]
#[command(
    after_help = "The new database is made beside the target, which needs the right to create databases, and dropped \
                        again. Statements that would act outside it (roles, ALTER SYSTEM, COPY … TO PROGRAM…) are left out \
                        and told.\n\nExit status: 0 no drift, 1 the check failed, 2 wrong use, 3 drift."
)]
pub(crate) struct Drift {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// The role that the files run as there.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

impl Drift {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let files = self.source.read(cx)?;
        let login = self.connection.login(cx).await?;
        let session = Session::open(&login).await?;
        let dump = pg_dump(&session).await?;
        session.close().await;
        let options = Options { role: self.role, ..Options::new(VERSION) };
        // Asked for before anything is made, so that neither ends us with the new database left behind.
        let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let interrupted = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let report = check(&login, &files, &options, &dump, interrupted).await?;
        for key in &report.not_run {
            let pending = report.pending.contains(key);
            let how = if pending { "is pending" } else { "has not been run as it is now" };
            cx.printer.warn(format!("{key} {how}"));
        }
        for key in &report.without_file {
            cx.printer.warn(format!("{key} was run and has no file any more"));
        }
        for skipped in &report.skipped {
            let Skipped { key, line, what } = skipped;
            cx.printer.warn(format!("{key}:{line}: {what} was left out: it would act outside the new database"));
        }
        cx.printer.either(&report, |printer| print(printer, &report))?;
        if report.drifts.is_empty() {
            cx.printer.note("no drift");
            return Ok(());
        }
        let count = counted(report.drifts.len(), "object");
        cx.printer.note(format!("{count} not as the files make them: + is in the database, - is what they make"));
        Err(Found(3).into())
    }
}

fn print(printer: &crate::printer::Printer, report: &DriftReport) {
    for drift in &report.drifts {
        printer.line(drift.to_string());
        for line in &drift.lines {
            printer.line(format!("  {line}"));
        }
    }
}
