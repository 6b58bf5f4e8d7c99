//! The databases of a rollout, and how each is brought up to date.

use super::record;
use super::run::{self, Parties};
use crate::config::TargetConfig;
use crate::instances::InstanceRecord;
use crate::instances::record as instances;
use crate::instances::world::pg;
use crate::operations::record as operations;
use crate::operations::{Engine, StepContext, StepError};
use crate::previews::PreviewWorld;
use crate::previews::record::{self as previews, PreviewRecord, PreviewState};
use crate::problem::Problem;
use pgdb_api::migrations::RolloutItem;
use pgdb_core::instance::InstanceState;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::Outcome;
use pgdb_core::migration::plan::plan;
use pgdb_pg::connect::{Client, connect};
use pgdb_pg::handover;
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::report::{FileReport, Notice, RunReport};
use pgdb_pg::migrate::run::Options;
use pgdb_pg::migrate::session::{Login, Session};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// How long a server may take to let us in.
const LOGIN: Duration = Duration::from_secs(15);
/// Lines of the server's that are kept of one database.
const NOTICES: usize = 100;

/// Which databases, once names have become what they stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Targets {
    /// The server of the template.
    pub(super) server: String,
    /// The template.
    pub(super) template: String,
    /// Whether it is migrated itself.
    pub(super) itself: bool,
    /// Which of its previews.
    pub(super) previews: Which<u64>,
    /// Which instances, by id. The one that previews are made on is none of all: nobody deployed it for its own database.
    pub(super) instances: Which<String>,
}

/// Some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Which<T> {
    /// Whatever there is when it is their turn.
    All,
    /// These.
    These(Vec<T>),
}

impl<T> Default for Which<T> {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl<T: PartialEq> Which<T> {
    fn holds(&self, one: &T) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(one),
        }
    }
}

/// One database.
pub(super) enum Target {
    Preview(Box<PreviewRecord>),
    Instance(Box<InstanceRecord>),
}

impl Target {
    /// An item that says nothing yet.
    pub(super) fn item(&self, on: Option<String>) -> RolloutItem {
        match self {
            Self::Preview(preview) => {
                RolloutItem { number: Some(preview.number), ..blank("preview", preview.db.clone(), on) }
            }
            Self::Instance(instance) => blank("instance", instance.name.clone(), on),
        }
    }

    /// What tells it from others.
    pub(super) fn is(&self, item: &RolloutItem) -> bool {
        let mine = self.item(None);
        mine.kind == item.kind && mine.name == item.name
    }
}

pub(super) fn failed(mut item: RolloutItem, why: String) -> RolloutItem {
    "failed".clone_into(&mut item.state);
    item.problem = Some(why);
    item
}

pub(super) fn blank(kind: &str, name: String, on: Option<String>) -> RolloutItem {
    RolloutItem {
        kind: kind.to_owned(),
        name,
        number: None,
        on,
        state: "up_to_date".to_owned(),
        files: Vec::new(),
        notices: Vec::new(),
        took_ms: 0,
        problem: None,
    }
}

/// The databases as they are now, previews first, by name.
pub(super) async fn find(world: &PreviewWorld, targets: &Targets) -> Result<Vec<Target>, Problem> {
    let wanted = targets.clone();
    let of_previews = match &world.config.target {
        TargetConfig::Instance(name) if wanted.instances == Which::All => Some(name.clone()),
        _ => None,
    };
    let found = world.store.read(move |connection| {
        let mut found = Vec::new();
        for preview in previews::all(connection)? {
            let of_template = preview.target == wanted.server && preview.template == wanted.template;
            if of_template && preview.state != PreviewState::Deleting && wanted.previews.holds(&preview.number) {
                found.push(Target::Preview(Box::new(preview)));
            }
        }
        for instance in instances::all(connection)? {
            let left_out = instance.state == InstanceState::Destroying || of_previews.as_ref() == Some(&instance.name);
            if !left_out && wanted.instances.holds(&instance.id) {
                found.push(Target::Instance(Box::new(instance)));
            }
        }
        Ok(found)
    });
    found.await
}

/// Runs files in one database, and tells what became of it. What fails is told too, and no error of the rollout.
pub(super) async fn bring_up(
    world: &PreviewWorld,
    cx: &StepContext,
    target: Target,
    files: &[File],
    options: &Options,
) -> Result<RolloutItem, StepError> {
    let begin = Instant::now();
    let cancelled = &cx.cancelled;
    let mut item = target.item(place_of(world, &target).await?);
    match work(world, cx, &target, files, options).await {
        Ok((earlier, report)) => tell(&mut item, earlier, report),
        Err(error) if cancelled.is_cancelled() => return Err(error),
        Err(error) => {
            "failed".clone_into(&mut item.state);
            item.problem = Some(error.message);
        }
    }
    // Somebody has deleted it, or is about to: it has no schema to bring up to date.
    if item.problem.is_some() && !is_there(world, &target).await? {
        "gone".clone_into(&mut item.state);
        item.problem = None;
    }
    item.took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(item)
}

/// Gives what an interrupted try of the same operation had applied, and what this one did.
async fn work(
    world: &PreviewWorld,
    cx: &StepContext,
    target: &Target,
    files: &[File],
    options: &Options,
) -> Result<(Vec<String>, RunReport), StepError> {
    settled(world, &cx.engine, target).await?;
    let newest = newest(world, target).await?;
    let (operation, item) = (cx.operation.seq, target.item(None));
    let begun = world.store.write(move |connection| record::begin(connection, operation, &item, newest)).await?;
    let keeper = match target {
        Target::Preview(preview) => {
            let keeper = operator(world, preview).await?;
            // Of a clone that was made before the ledger was kept apart.
            handover::keep_ledger(&keeper, &preview.role).await.map_err(pg)?;
            Some(keeper)
        }
        Target::Instance(_) => None,
    };
    let parties = Parties { files: login(world, target).await?, keeper };
    let report = run::run(parties, files, options, &cx.cancelled).await?;
    let earlier = if begun < newest { applied_since(world, target, begun, newest).await? } else { Vec::new() };
    if let Target::Preview(preview) = target
        && !report.files.is_empty()
    {
        let operator = operator(world, preview).await?;
        let dev = world.config.settings.dev_role();
        handover::show_ledger(&operator, &preview.role, dev).await.map_err(pg)?;
        operator.close().await;
    }
    Ok((earlier, report))
}

/// The newest row of the database's ledger, 0 if it has none.
async fn newest(world: &PreviewWorld, target: &Target) -> Result<i64, StepError> {
    let reader = reader(world, target).await?;
    let rows = ledger::history(&reader, None, 1).await.map_err(pg)?.unwrap_or_default();
    reader.close().await;
    Ok(rows.first().map_or(0, |row| row.id))
}

/// What was applied by the rows behind `begun`, up to `newest`, in order.
async fn applied_since(
    world: &PreviewWorld,
    target: &Target,
    begun: i64,
    newest: i64,
) -> Result<Vec<String>, StepError> {
    let reader = reader(world, target).await?;
    let rows = ledger::read(&reader).await.map_err(pg)?.unwrap_or_default();
    reader.close().await;
    let those = rows.into_iter().filter(|row| begun < row.id && row.id <= newest && row.outcome == Outcome::Applied);
    Ok(those.map(|row| row.key).collect())
}

fn gone() -> StepError {
    StepError::lasting("preview_target_missing", "the instance that it was on is gone")
}

/// What a run would do, in the same words.
pub(super) async fn look(
    world: &PreviewWorld,
    target: &Target,
    files: &[File],
    options: &Options,
) -> Result<RolloutItem, StepError> {
    let mut item = target.item(place_of(world, target).await?);
    let looked = async {
        let session = Session::open(&login(world, target).await?).await.map_err(pg)?;
        let rows = ledger::read(session.client()).await.map_err(pg)?.unwrap_or_default();
        session.close().await;
        let plan = plan(files, &rows, options.policy);
        if let Some((refused, why)) = plan.refusals().next() {
            return Err(StepError::lasting("migration_refused", format!("'{}' {why}", refused.file.key)));
        }
        Ok(plan.to_run().map(|item| item.file.key.to_string()).collect::<Vec<_>>())
    };
    match looked.await {
        Ok(pending) if pending.is_empty() => {}
        Ok(pending) => {
            "pending".clone_into(&mut item.state);
            item.files = pending;
        }
        Err(error) => {
            "failed".clone_into(&mut item.state);
            item.problem = Some(error.message);
        }
    }
    Ok(item)
}

/// Waits for what is being made of it, and refuses what cannot be used.
async fn settled(world: &PreviewWorld, engine: &Engine, target: &Target) -> Result<(), StepError> {
    let subject = match target {
        Target::Preview(preview) => preview.subject(),
        Target::Instance(instance) => instance.subject(),
    };
    let active = world.store.read(move |connection| operations::active_on(connection, &subject)).await?;
    if let Some(operation) = active {
        // How it ends is its own affair.
        engine.wait(&operation.id).await?;
    }
    Ok(())
}

/// The operator's session in a preview.
async fn operator(world: &PreviewWorld, preview: &PreviewRecord) -> Result<Client, StepError> {
    let server = world.server_of(&preview.target).await?.ok_or_else(gone)?;
    world.connect(&server, Some(&preview.db)).await
}

/// A session that can read the database's ledger.
async fn reader(world: &PreviewWorld, target: &Target) -> Result<Client, StepError> {
    match target {
        Target::Preview(preview) => operator(world, preview).await,
        Target::Instance(_) => {
            let Login { target, user, password, db, timeout } = login(world, target).await?;
            connect(&target, &user, password.as_ref(), &db, timeout).await.map_err(pg)
        }
    }
}

/// How the role logs in that files run as.
async fn login(world: &PreviewWorld, target: &Target) -> Result<Login, StepError> {
    let (target, user, password, db) = match target {
        Target::Preview(preview) => {
            let server = world.server_of(&preview.target).await?.ok_or_else(gone)?;
            let password = world.password(&server, &preview.db, &preview.role).await?.password;
            (world.client_target(&server).await?, preview.role.clone(), password, preview.db.clone())
        }
        Target::Instance(instance) => {
            let again = world.instances.by_id(&instance.id).await?;
            let instance = again.filter(|instance| instance.state != InstanceState::Stopped).ok_or_else(|| {
                let name = &instance.name;
                let message = format!("the instance '{name}' is stopped; start it: `pgdb start {name}`");
                StepError::lasting("not_running", message)
            })?;
            let password = world.instances.password(&instance)?;
            (world.instances.client_target(&instance)?, instance.user, password, instance.db)
        }
    };
    Ok(Login { target, user, password: Some(password), db, timeout: LOGIN })
}

async fn place_of(world: &PreviewWorld, target: &Target) -> Result<Option<String>, StepError> {
    let Target::Preview(preview) = target else { return Ok(None) };
    Ok(world.server_of(&preview.target).await?.and_then(|server| server.instance.clone()))
}

async fn is_there(world: &PreviewWorld, target: &Target) -> Result<bool, StepError> {
    let found = match target {
        Target::Preview(preview) => {
            let (target, db) = (preview.target.clone(), preview.db.clone());
            let found = world.store.read(move |connection| previews::by_db(connection, &target, &db)).await?;
            found.is_some_and(|found| found.state != PreviewState::Deleting)
        }
        Target::Instance(instance) => {
            let found = world.instances.by_id(&instance.id).await?;
            found.is_some_and(|found| found.state != InstanceState::Destroying)
        }
    };
    Ok(found)
}

fn tell(item: &mut RolloutItem, earlier: Vec<String>, report: RunReport) {
    let applied = |file: &&FileReport| file.applied;
    let now = report.files.iter().filter(applied).map(|file| file.key.clone());
    item.files = earlier.into_iter().chain(now).collect();
    let heard = report.files.iter().flat_map(|file| file.notices.iter().map(|notice| line(&file.key, notice)));
    item.notices = heard.take(NOTICES).collect();
    let state = if item.files.is_empty() { "up_to_date" } else { "applied" };
    state.clone_into(&mut item.state);
    if let Err(error) = run::verdict(&report) {
        "failed".clone_into(&mut item.state);
        item.problem = Some(error.message);
    }
}

fn line(key: &str, notice: &Notice) -> String {
    format!("{key}: {}: {}", notice.severity, notice.message)
}
