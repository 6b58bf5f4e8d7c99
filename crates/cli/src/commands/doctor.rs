//! `pgdb doctor`.

use super::{Context, psql};
use crate::error::{Refused, Unreachable, hint};
use clap::Args;
use pgdb_api::admin::{DoctorReport, Finding};

/// What is wrong here, and how to mend it. Ends with 1 when there is a problem.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let mut findings = vec![token(cx), client_program()];
        match cx.client.get::<DoctorReport>("/v1/doctor").await {
            Ok(report) => {
                findings.push(finding("ok", "daemon", format!("answers at {}", cx.client.server.url), None));
                findings.extend(report.findings);
            }
            Err(error) if error.is::<Unreachable>() || error.is::<Refused>() => {
                findings.push(finding("problem", "daemon", error.to_string(), hint(&error)));
            }
            Err(error) => return Err(error),
        }
        let problems = findings.iter().filter(|finding| finding.level == "problem").count();
        let report = DoctorReport { findings };
        cx.printer.either(&report, |printer| {
            for finding in &report.findings {
                let mark = match finding.level.as_str() {
                    "problem" => "✗",
                    "warning" => "!",
                    _ => "✓",
                };
                printer.line(format!("{mark} {}: {}", finding.check, finding.message));
                if let Some(fix) = &finding.fix {
                    printer.line(format!("    {fix}"));
                }
            }
        })?;
        anyhow::ensure!(problems == 0, "{problems} of these have to be mended");
        Ok(())
    }
}

fn token(cx: &Context<'_>) -> Finding {
    if cx.client.server.token.is_some() {
        return finding("ok", "token", "there is one".to_owned(), None);
    }
    let fix = "set PGDB_TOKEN; on the daemon's machine its token is in PGDB_DATA_DIR/token";
    finding("warning", "token", "there is none".to_owned(), Some(fix.to_owned()))
}

fn client_program() -> Finding {
    match psql::find() {
        Ok(psql) => finding("ok", "psql", psql.display().to_string(), None),
        Err(error) => {
            finding("warning", "psql", error.to_string(), Some("`pgdb psql` needs it, nothing else does".to_owned()))
        }
    }
}

fn finding(level: &str, check: &str, message: String, fix: Option<String>) -> Finding {
    Finding { level: level.to_owned(), check: check.to_owned(), message, fix }
}
