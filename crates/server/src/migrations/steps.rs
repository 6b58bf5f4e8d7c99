//! `migrations.rollout`: the template first, then databases beside each other. What was applied stays, whatever fails.

use super::record;
use super::set::{Set, options};
use super::targets::{self, Target, Targets, blank, failed};
use crate::operations::record as operations;
use crate::operations::{Engine, OperationKind, Place, StepContext, StepDone, StepError, StepPlan, outcome};
use crate::previews::PreviewWorld;
use crate::problem::Problem;
use crate::templates::{MIGRATE, TemplateService, Which};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pgdb_api::migrations::{MigrationPolicy, RolloutItem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub const ROLLOUT: &str = "migrations.rollout";

/// How long all databases together may take.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// Names in an error, at most.
const NAMED: usize = 5;

/// What is rolled out where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RolloutInput {
    /// Digest of the migrations.
    pub(super) set: String,
    /// How they are run.
    pub(super) policy: MigrationPolicy,
    /// Databases at the same time.
    pub(super) at_once: usize,
    /// The databases.
    pub(super) to: Targets,
}

struct Rollout(Arc<PreviewWorld>);

/// Every kind of operation on migrations.
pub fn kinds(world: &Arc<PreviewWorld>) -> Vec<Arc<dyn OperationKind>> {
    vec![Arc::new(Rollout(Arc::clone(world)))]
}

#[async_trait]
impl OperationKind for Rollout {
    fn kind(&self) -> &str {
        ROLLOUT
    }

    fn plan(&self, input: &Value) -> Vec<StepPlan> {
        let template = (input["to"]["itself"] == true).then(|| StepPlan::new("template").timeout(LONG));
        template.into_iter().chain([StepPlan::new("databases").timeout(LONG)]).collect()
    }

    fn place(&self, _: &Value) -> Place {
        Place::Aside
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    fn cancellable(&self) -> bool {
        true
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: RolloutInput = cx.input()?;
        let work = Work { world: &self.0, cx, input };
        match step {
            "template" => work.template().await,
            "databases" => work.databases().await,
            other => {
                let message = format!("{ROLLOUT} has no step {other}; was it written by a newer pgdb?");
                Err(StepError::lasting("unknown_step", message))
            }
        }
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

struct Work<'a> {
    world: &'a Arc<PreviewWorld>,
    cx: &'a StepContext,
    input: RolloutInput,
}

impl Work<'_> {
    fn engine(&self) -> &Engine {
        &self.cx.engine
    }

    /// Migrates the template by an operation of its own, and waits for that.
    async fn template(&self) -> Result<StepDone, StepError> {
        let (server, name) = (&self.input.to.server, &self.input.to.template);
        let templates = TemplateService::new(Arc::clone(self.world), self.engine().clone());
        let Some(which) = templates.which_on(server, name).await? else {
            return Err(StepError::lasting("preview_target_missing", "the instance that the template was on is gone"));
        };
        let set = Set::load(&self.world.store, &self.input.set).await?;
        let item = blank("template", name.clone(), which.server.instance.clone());
        let started = templates.start_migrate_to(&which, set, self.input.policy.clone()).await;
        let item = match started {
            Ok(None) => match self.migrated_meanwhile(&which).await? {
                Some(id) => self.follow(item, &id).await?,
                None => item,
            },
            Ok(Some(started)) => self.follow(item, &started.id).await?,
            // Another operation is at work on the template; when it has ended, it is our turn.
            Err(problem) if problem.code == "operation_conflict" => {
                if let Some(id) = &problem.operation_id {
                    self.engine().wait(id).await?;
                }
                return Err(StepError::passing(problem.code, problem.message));
            }
            Err(problem) => failed(item, problem.message),
        };
        let why = item.problem.clone();
        let done = StepDone::output(json!({ "state": item.state }));
        self.note(item).await?;
        match why {
            Some(why) if !self.input.policy.keep_going => {
                let message = format!("the template '{name}' could not be migrated, and nothing else was: {why}");
                Err(StepError::lasting("rollout_incomplete", message))
            }
            _ => Ok(done),
        }
    }

    /// The operation that has migrated the template since this rollout was begun: that of a try which was interrupted.
    async fn migrated_meanwhile(&self, which: &Which) -> Result<Option<String>, Problem> {
        let kind = Some(MIGRATE.to_owned());
        let filter = operations::Filter { subject: Some(which.subject()), kind, ..operations::Filter::default() };
        let latest = self.world.store.read(move |connection| operations::page(connection, &filter, 1)).await?;
        let ours = latest.into_iter().find(|found| found.seq > self.cx.operation.seq);
        Ok(ours.map(|found| found.id))
    }

    async fn follow(&self, mut item: RolloutItem, id: &str) -> Result<RolloutItem, StepError> {
        let ended = tokio::select! {
            ended = self.engine().wait(id) => ended?,
            () = self.cx.cancelled.cancelled() => {
                // It may have ended just now.
                let _ = self.engine().cancel(id).await;
                return Err(StepError::lasting("cancelled", "the rollout was cancelled"));
            }
        };
        let told = |name: &str| ended.steps.iter().find(|step| step.name == name).map(|step| &step.output);
        let (copied, report) = (told("copy"), told("migrate"));
        item.took_ms = report.and_then(|report| report["took_ms"].as_u64()).unwrap_or_default();
        let files = report.and_then(|report| report["files"].as_array()).cloned().unwrap_or_default();
        item.files = files.iter().filter_map(|file| file["key"].as_str().map(str::to_owned)).collect();
        match outcome(&ended) {
            Err(problem) => {
                item.files.clear();
                item = failed(item, problem.message);
            }
            Ok(()) if copied.is_some_and(|copied| copied["lacks"] != 0) => "applied".clone_into(&mut item.state),
            Ok(()) => {}
        }
        Ok(item)
    }

    /// Brings databases up to date, those too that appear meanwhile.
    async fn databases(&self) -> Result<StepDone, StepError> {
        let options = options(&self.input.policy)?;
        let files = Set::load(&self.world.store, &self.input.set).await?.files();
        loop {
            let done = self.done().await?;
            let is_new = |target: &Target| !done.iter().any(|item| target.is(item));
            let found = targets::find(self.world, &self.input.to).await?;
            let mut waiting = found.into_iter().filter(is_new).collect::<Vec<_>>().into_iter();
            // Also of a try that was interrupted.
            let mut stopped = done.iter().any(|item| self.ends(item));
            if waiting.len() == 0 || stopped {
                return self.verdict(waiting.len()).await;
            }
            let bring_up = |target| targets::bring_up(self.world, self.cx, target, &files, &options);
            let mut at_work: FuturesUnordered<_> = waiting.by_ref().take(self.input.at_once).map(bring_up).collect();
            while let Some(item) = at_work.next().await {
                let item = item?;
                stopped |= self.ends(&item);
                self.note(item).await?;
                if !stopped {
                    at_work.extend(waiting.next().map(bring_up));
                }
            }
        }
    }

    /// Whether no more databases are begun after this one.
    fn ends(&self, item: &RolloutItem) -> bool {
        item.problem.is_some() && !self.input.policy.keep_going
    }

    async fn note(&self, item: RolloutItem) -> Result<(), Problem> {
        let operation = self.cx.operation.seq;
        self.world.store.write(move |connection| record::add(connection, operation, &item)).await
    }

    async fn done(&self) -> Result<Vec<RolloutItem>, Problem> {
        let operation = self.cx.operation.seq;
        self.world.store.read(move |connection| record::items(connection, operation)).await
    }

    /// `not_reached`: how many databases are left as they were, because others failed.
    async fn verdict(&self, not_reached: usize) -> Result<StepDone, StepError> {
        let done = self.done().await?;
        let failed: Vec<&str> =
            done.iter().filter(|item| item.problem.is_some()).map(|item| item.name.as_str()).collect();
        if failed.is_empty() {
            return Ok(StepDone::output(json!({ "databases": done.len() })));
        }
        let mut named = failed.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if failed.len() > NAMED {
            named.push_str(", …");
        }
        if not_reached > 0 {
            named.push_str(&format!(" ({not_reached} more were not tried, for --keep-going was not said)"));
        }
        let message = format!(
            "{} of {} databases could not be brought up to date: {named}; `pgdb migrate rollout --show {}` tells why",
            failed.len(),
            done.len() + not_reached,
            self.cx.operation.id
        );
        Err(StepError::lasting("rollout_incomplete", message))
    }
}
