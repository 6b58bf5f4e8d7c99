//! `pgdb migrate rollout`.

use super::Context;
use super::files;
use super::lint::counted;
use super::run::PolicyArgs;
use crate::args::by_name_alone;
use crate::client::{Answer, Client, segment};
use crate::commands::preview::number;
use crate::error::{Found, Usage};
use crate::settings::Server;
use clap::Args;
use pgdb_api::migrations::{Rollout as Report, RolloutItem, RolloutRequest, RolloutTargets};
use pgdb_api::operations::Operation;
use reqwest::Method;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

/// How often the daemon is asked what is done.
const GLANCE: Duration = Duration::from_millis(200);

/// Bring many databases of the daemon up to date: instances, a template, its previews.
#[derive(Debug, Args)]
#[command(
    mut_args = by_name_alone,
    after_help = "A template is copied, the copy migrated, checked and put in its place, so that nobody has to wait. In a \
                  preview the files run as the role of its app, and the ledger stays the operator's. What was applied \
                  stays, whatever fails; a second rollout goes on with what is missing.\n\n\
                  Exit status: 0 all are up to date, 1 some are not, 2 wrong use, 3 pending (--dry-run --exit-code)."
)]
pub(crate) struct Rollout {
    /// The folder with the migrations, SCHEMA/NNN_name.sql.
    #[arg(long, env = "MIGRATIONS_DIR", value_name = "DIR", default_value = "migrations")]
    dir: PathBuf,
    /// The template of --template-itself, --previews and --preview, where it is not the configured one.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// The instance that this template is on, where it is not the configured server.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
    /// The template, so that later previews have it too.
    #[arg(long)]
    template_itself: bool,
    /// Every preview of the template.
    #[arg(long)]
    previews: bool,
    /// The preview of this pull request; may be given several times.
    #[arg(long, value_name = "NUMBER", conflicts_with = "previews")]
    preview: Vec<String>,
    /// The database of this instance; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "all_instances")]
    instance: Vec<String>,
    /// The databases of all instances but the daemon's own server of previews, which --instance names.
    #[arg(long)]
    all_instances: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Go on after a failure, with the next file and the next database.
    #[arg(long)]
    keep_going: bool,
    /// Databases at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
    /// Only tell what would be run.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: end with 3 unless everything is up to date.
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    /// The report of an earlier rollout, or of one that is under way, by its operation.
    #[arg(long, value_name = "OPERATION", conflicts_with_all = ["template_itself", "previews", "preview", "instance", "all_instances"])]
    show: Option<String>,
}

impl Rollout {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let client = Client::new(Server::resolve(cx.global)?, cx.global.wait_timeout)?;
        if let Some(operation) = &self.show {
            let report: Report = client.get(&path(operation)).await?;
            return show(cx, &report, &mut HashSet::new());
        }
        let request = self.request()?;
        match client.start(Method::POST, "/v1/migrations", Some(&request), true).await? {
            // What a dry run has found.
            Answer::Done(report) => {
                show(cx, &report, &mut HashSet::new())?;
                if report.items.iter().any(|item| item.problem.is_some()) {
                    return Err(Found(1).into());
                }
                if self.exit_code && !report.complete { Err(Found(3).into()) } else { Ok(()) }
            }
            Answer::Accepted(operation) => follow(cx, &client, &operation.id).await,
        }
    }

    fn request(&self) -> anyhow::Result<RolloutRequest> {
        let to = RolloutTargets {
            template: self.template.clone(),
            on: self.on.clone(),
            template_itself: self.template_itself,
            previews: self.previews,
            numbers: self.preview.iter().map(|text| Ok(number(text)?.get())).collect::<anyhow::Result<_>>()?,
            instances: self.instance.clone(),
            all_instances: self.all_instances,
        };
        if to == (RolloutTargets { template: to.template.clone(), on: to.on.clone(), ..RolloutTargets::default() }) {
            let which = "which databases? Name them with --template-itself, --previews, --preview NUMBER, --instance NAME \
                         or --all-instances";
            return Err(Usage(which.to_owned()).into());
        }
        Ok(RolloutRequest {
            files: files::read(&self.dir)?,
            to,
            policy: self.policy.sent(self.keep_going),
            at_once: self.at_once,
            dry_run: self.dry_run,
        })
    }
}

fn path(operation: &str) -> String {
    format!("/v1/migrations/{}", segment(operation))
}

/// Shows each database as it is done, until all are.
async fn follow(cx: &Context<'_>, client: &Client, id: &str) -> anyhow::Result<()> {
    let mut shown = HashSet::new();
    let report = loop {
        let report: Report = client.get(&path(id)).await?;
        if report.ended {
            break report;
        }
        if !cx.printer.json {
            lines(cx, &report, &mut shown);
        }
        tokio::time::sleep(GLANCE).await;
    };
    show(cx, &report, &mut shown)?;
    if report.complete {
        return Ok(());
    }
    // Who may roll out need not be allowed to look at operations.
    let Ok(operation) = client.get::<Operation>(&format!("/v1/operations/{}", segment(id))).await else {
        anyhow::bail!("not every database is up to date; `pgdb migrate rollout --show {id}` tells of each again");
    };
    let why = operation.error.map_or_else(|| format!("the rollout ended {}", operation.state), |error| error.message);
    // What was shown with its database is not shown in full again.
    let mut shown = report.items.iter().filter_map(|item| item.problem.as_ref());
    let short = shown.find_map(|problem| why.strip_suffix(&format!(": {problem}")));
    anyhow::bail!("{}", short.unwrap_or(&why).to_owned())
}

fn show(cx: &Context<'_>, report: &Report, shown: &mut HashSet<(String, String)>) -> anyhow::Result<()> {
    cx.printer.either(report, |printer| {
        lines(cx, report, shown);
        let up_to_date = report.items.iter().filter(|item| item.problem.is_none() && item.state != "pending").count();
        if report.complete {
            printer.line(format!("All migrations applied ({})", counted(report.items.len(), "database")));
        } else if report.operation.is_none() {
            printer.line(format!("{} of {} databases are up to date", up_to_date, report.items.len()));
        }
    })
}

/// A line for each database that was not shown yet.
fn lines(cx: &Context<'_>, report: &Report, shown: &mut HashSet<(String, String)>) {
    for item in &report.items {
        if !shown.insert((item.kind.clone(), item.name.clone())) {
            continue;
        }
        for notice in &item.notices {
            cx.printer.note(format!("{}: {notice}", item.name));
        }
        match &item.problem {
            Some(problem) => cx.printer.trouble(format!("✗ {}: {problem}", named(item))),
            None => cx.printer.line(line(item)),
        }
    }
}

fn line(item: &RolloutItem) -> String {
    let what = match (item.state.as_str(), item.files.len()) {
        ("up_to_date", _) => "up to date".to_owned(),
        ("gone", _) => "deleted meanwhile".to_owned(),
        ("pending", 1) => "1 file to run".to_owned(),
        ("pending", count) => format!("{count} files to run"),
        (_, 1) => format!("1 file, {} ms", item.took_ms),
        (_, count) => format!("{count} files, {} ms", item.took_ms),
    };
    let mark = if item.state == "pending" { "·" } else { "✓" };
    format!("{mark} {}: {what}", named(item))
}

/// What a database is called, a preview by its number too, and where it is.
fn named(item: &RolloutItem) -> String {
    let RolloutItem { kind, name, .. } = item;
    let name = item.number.map_or_else(|| name.clone(), |number| format!("{number} ({name})"));
    let on = item.on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
    format!("{kind} {name}{on}")
}
