//! `pgdb migrate validate`.

use super::Context;
use super::connection::ConnectionArgs;
use super::lint::counted;
use super::source::SourceArgs;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::{Policy, plan};
use pgdb_core::migration::validate::{Problem, Severity, problems};
use pgdb_pg::migrate::session::Session;
use pgdb_pg::migrate::{ledger, place, split};
use pgdb_server::migrations::directory::Found;

/// What is odd about the files and the ledger. Ends with 1 if there is an error, not for warnings.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
}

impl Validate {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let Found { files, left_out } = self.source.find(cx)?;
        let session = Session::open(&self.connection.login(cx).await?).await?;
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        session.close().await;
        let plan = plan(&files, &rows, Policy::default());
        let mut found = problems(&files, &plan);
        found.extend(plan.to_run().filter_map(|item| unfit(item.file)));
        let place = self.source.dir.display().to_string();
        found.extend(left_out.into_iter().map(|message| Problem {
            severity: Severity::Error,
            kind: "left_out",
            key: place.clone(),
            message,
        }));
        found.sort_by_key(|problem| problem.severity);
        cx.printer.either(&found, |printer| {
            for problem in &found {
                printer.line(format!("{}: {}: {}", problem.severity, problem.key, problem.message));
            }
            if found.is_empty() {
                printer.line(format!("{}, nothing odd", counted(files.len(), "file")));
            }
        })?;
        let errors = found.iter().filter(|problem| problem.severity == Severity::Error).count();
        let have = if errors == 1 { "has" } else { "have" };
        anyhow::ensure!(errors == 0, "{errors} of these {have} to be mended before migrations can run");
        Ok(())
    }
}

/// A file that is to run and cannot be.
fn unfit(file: &File) -> Option<Problem> {
    let sql = &file.content.as_ref().ok()?.sql;
    let error = split::split(sql).err()?;
    let place = place::of_byte(sql, error.at());
    Some(Problem {
        severity: Severity::Error,
        kind: "unfit",
        key: file.key.to_string(),
        message: format!("line {}, column {}: {error}", place.line, place.column),
    })
}
