//! `pgdb migrate run`.

use super::connection::ConnectionArgs;
use super::lines::Lines;
use super::source::{SourceArgs, count};
use super::{Context, VERSION, lint, schema};
use clap::Args;
use pgdb_api::migrations::MigrationPolicy;
use pgdb_core::duration::parse_seconds;
use pgdb_core::migration::plan::{Changed, OutOfOrder, Policy};
use pgdb_pg::migrate::report::{RefusedFile, RunReport};
use pgdb_pg::migrate::run::{Options, Seen, look, run_as_seen};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_server::migrations::directory::Found;
use std::path::PathBuf;
use std::time::Duration;

/// Run what has not been run.
#[derive(Debug, Args)]
#[command(
    after_help = "The first failure ends the run, and of the file that failed nothing is kept, unless it runs without a \
                  transaction. What the server says meanwhile (RAISE NOTICE …) goes to standard error.\n\n\
                  A file whose first lines hold `-- pgdb: no-transaction` runs statement by statement; one with \
                  `-- pgdb: repeatable`, or called R__name.sql, runs whenever it changed, after all others."
)]
pub(crate) struct Run {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Go on with the next file after a failure.
    #[arg(long)]
    keep_going: bool,
    /// How long a statement waits for a lock before it is tried again later.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = seconds)]
    lock_timeout: Duration,
    /// How often a file is tried again when it did not get a lock.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    lock_retries: u32,
    /// How long to wait for another migrator on the same database.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = seconds)]
    wait: Duration,
    /// The role that the files run as; the ledger stays the login's.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Do not tell PostgREST (NOTIFY pgrst, 'reload schema').
    #[arg(long)]
    no_notify: bool,
    /// Look at what would run first, and run nothing if that is dangerous (as `plan` shows it).
    #[arg(long)]
    lint: bool,
    /// Write the schema to this file afterwards, if everything was applied; needs pg_dump.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
}

/// What is allowed.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// What to make of a file that comes before one that was already run: allow, warn or refuse.
    #[arg(long, value_name = "POLICY", default_value = "warn", value_parser = out_of_order)]
    out_of_order: OutOfOrder,
    /// Run files again that were changed after they were run.
    #[arg(long)]
    rerun_changed: bool,
}

impl PolicyArgs {
    /// As it is sent to a daemon.
    pub(super) fn sent(&self, keep_going: bool) -> MigrationPolicy {
        MigrationPolicy {
            out_of_order: self.out_of_order.as_str().to_owned(),
            rerun_changed: self.rerun_changed,
            keep_going,
            ..MigrationPolicy::default()
        }
    }

    pub(super) fn policy(&self) -> Policy {
        let changed = if self.rerun_changed { Changed::Rerun } else { Changed::Refuse };
        Policy { out_of_order: self.out_of_order, changed }
    }
}

fn out_of_order(text: &str) -> Result<OutOfOrder, String> {
    OutOfOrder::parse(text).ok_or_else(|| "it is allow, warn or refuse".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(Duration::from_secs).map_err(|error| error.to_string())
}

impl Run {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        if let Some(file) = &self.dump {
            self.source.refuse_among(file)?;
        }
        let login = self.connection.login(cx).await?;
        let (Found { files, left_out }, looked) = self.source.find_during(cx, look_in(&login)).await?;
        anyhow::ensure!(
            left_out.is_empty() || self.keep_going,
            "nothing was run: {} cannot be used; mend or remove what is told above, or use --keep-going",
            count(&left_out)
        );
        let options = Options {
            policy: self.policy.policy(),
            keep_going: self.keep_going,
            lock_timeout: self.lock_timeout,
            lock_retries: self.lock_retries,
            wait: self.wait,
            role: self.role,
            notify: !self.no_notify,
            ..Options::new(VERSION)
        };
        let (mut session, seen) = looked?;
        if files.is_empty() && left_out.is_empty() {
            self.source.none(cx, seen.is_first())?;
        }
        // Before anything runs: a run whose schema cannot be written is not what was asked for.
        let dump = match self.dump {
            Some(file) => Some((schema::reaching(&session, &login).await?, file)),
            None => None,
        };
        if self.lint {
            lint::gate(cx, &session, &files, options.policy).await?;
        }
        let mut lines = Lines::new(cx.printer);
        let outcome = run_as_seen(&mut session, seen, &files, &options, &mut |event| lines.show(&event)).await;
        lines.finish();
        let mut report = outcome?;
        session.close().await;
        let place = self.source.dir.display().to_string();
        report.refused.extend(left_out.into_iter().map(|why| RefusedFile { key: place.clone(), why }));
        if let Some((dump, file)) = dump.filter(|_| report.is_complete()) {
            schema::write(&dump, &login, &file).await?;
        }
        cx.printer.either(&report, |printer| {
            if report.is_complete() {
                printer.line(format!(
                    "All migrations applied ({} run now, {} before)",
                    report.applied, report.up_to_date_before
                ));
            }
        })?;
        verdict(&report)
    }
}

/// Logs in and reads the ledger.
async fn look_in(login: &Login) -> anyhow::Result<(Session, Seen)> {
    let session = Session::open(login).await?;
    let seen = look(&session).await?;
    Ok((session, seen))
}

/// The error that a run ends with, if it does.
fn verdict(report: &RunReport) -> anyhow::Result<()> {
    if report.is_complete() {
        return Ok(());
    }
    let mut parts = Vec::new();
    for (count, what) in [
        (report.applied, "applied"),
        (report.failed, "failed"),
        (report.not_reached.len(), "not reached"),
        (report.refused.len(), "refused"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let refused: Vec<String> = report.refused.iter().map(|file| format!("'{}': {}", file.key, file.why)).collect();
    let why = if refused.is_empty() { String::new() } else { format!(" ({})", refused.join("; ")) };
    anyhow::bail!("migrations are not complete: {}{why}", parts.join(", "))
}
