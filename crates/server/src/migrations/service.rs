//! What is asked of migrations: checked, and turned into an operation.

use super::record;
use super::set::{Set, options};
use super::steps::{ROLLOUT, RolloutInput};
use super::targets::{self, Targets, Which, blank, failed};
use crate::operations::{Engine, NewOperation, Started, step_problem};
use crate::previews::PreviewWorld;
use crate::previews::record as previews;
use crate::problem::Problem;
use crate::templates::{self, TemplateService, locked};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use pgdb_api::migrations::{MigrationPolicy, Rollout, RolloutRequest, RolloutTargets};
use pgdb_core::migration::file::File;
use pgdb_core::operation::OperationState;
use rusqlite::Connection;
use std::sync::Arc;

/// Databases at the same time, at most.
const MOST_AT_ONCE: u32 = 64;

/// What migrations can be asked. Cheap to clone.
#[derive(Clone)]
pub struct MigrationService {
    world: Arc<PreviewWorld>,
    engine: Engine,
}

/// A rollout that was checked.
pub struct Wanted {
    set: Set,
    policy: MigrationPolicy,
    at_once: usize,
    to: Targets,
}

impl Wanted {
    /// Its subject in operations and the audit log: rollouts to different templates do not wait for each other.
    pub fn subject(&self) -> String {
        match (self.to.server.as_str(), self.to.template.as_str()) {
            ("", _) => "migrations/instances".to_owned(),
            (server, template) => format!("migrations/{server}/{template}"),
        }
    }
}

impl MigrationService {
    /// A service over these parts.
    pub fn new(world: Arc<PreviewWorld>, engine: Engine) -> Self {
        Self { world, engine }
    }

    /// Checks a request, and finds what its names stand for.
    pub async fn check(&self, request: RolloutRequest) -> Result<Wanted, Problem> {
        if !(1..=MOST_AT_ONCE).contains(&request.at_once) {
            return Err(Problem::invalid("invalid_value", format!("at_once: give 1 to {MOST_AT_ONCE}")));
        }
        options(&request.policy)?;
        let set = Set::new(request.files, None)?;
        let at_once = usize::try_from(request.at_once).unwrap_or(1);
        Ok(Wanted { set, policy: request.policy, at_once, to: self.targets(request.to).await? })
    }

    async fn targets(&self, wanted: RolloutTargets) -> Result<Targets, Problem> {
        let of_template = wanted.template_itself || wanted.previews || !wanted.numbers.is_empty();
        if !of_template && wanted.instances.is_empty() && !wanted.all_instances {
            let message = "to: name at least one of template_itself, previews, numbers, instances and all_instances";
            return Err(Problem::invalid("invalid_value", message));
        }
        let mut targets = Targets { itself: wanted.template_itself, ..Targets::default() };
        if of_template {
            targets.template = self.world.template_name(wanted.template.as_deref().unwrap_or("-"))?;
            targets.server = self.world.server(wanted.on.as_deref()).await?.key.clone();
            targets.previews =
                if wanted.previews { Which::All } else { self.numbers(&targets, wanted.numbers).await? };
        }
        targets.instances = if wanted.all_instances {
            Which::All
        } else {
            let mut ids = Vec::new();
            for name in &wanted.instances {
                ids.push(self.world.instances.by_name(name).await?.id);
            }
            Which::These(ids)
        };
        Ok(targets)
    }

    /// Pull requests that were named have to have previews.
    async fn numbers(&self, targets: &Targets, numbers: Vec<u64>) -> Result<Which<u64>, Problem> {
        let (server, template) = (targets.server.clone(), targets.template.clone());
        let known = self.world.store.read(move |connection| previews::numbers(connection, &server, &template)).await?;
        match numbers.iter().find(|number| !known.contains(number)) {
            None => Ok(Which::These(numbers)),
            Some(missing) => {
                let message = format!("there is no preview {missing} of the template '{}'", targets.template);
                Err(Problem::not_found("preview_not_found", message))
            }
        }
    }

    /// Begins a rollout.
    pub async fn start(&self, wanted: Wanted) -> Result<Started, Problem> {
        let subject = wanted.subject();
        let Wanted { set, policy, at_once, to } = wanted;
        let input = RolloutInput { set: set.digest(), policy, at_once, to };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let keep = move |connection: &Connection| set.keep(connection);
        self.engine.start(NewOperation { kind: ROLLOUT, subject, input }, keep).await
    }

    /// What a rollout would do. A template cannot be looked into without copying it: what it holds is known
    /// if it was built or migrated here, and else it is told as one that may need every file.
    pub async fn dry_run(&self, wanted: &Wanted) -> Result<Rollout, Problem> {
        let (files, options) = (wanted.set.files(), options(&wanted.policy)?);
        let mut items = Vec::new();
        if wanted.to.itself {
            items.push(self.look_at_template(wanted, &files).await?);
        }
        let found = targets::find(&self.world, &wanted.to).await?;
        for some in found.chunks(wanted.at_once) {
            let looks: FuturesOrdered<_> =
                some.iter().map(|target| targets::look(&self.world, target, &files, &options)).collect();
            for item in looks.collect::<Vec<_>>().await {
                items.push(item.map_err(step_problem)?);
            }
        }
        let complete = items.iter().all(|item| item.state == "up_to_date");
        Ok(Rollout { operation: None, complete, ended: true, items })
    }

    async fn look_at_template(
        &self,
        wanted: &Wanted,
        files: &[File],
    ) -> Result<pgdb_api::migrations::RolloutItem, Problem> {
        let service = TemplateService::new(Arc::clone(&self.world), self.engine.clone());
        let (key, name) = (&wanted.to.server, &wanted.to.template);
        let which: Option<templates::Which> = service.which_on(key, name).await?;
        let which = which.ok_or_else(|| Problem::internal("a server that was there is gone"))?;
        let mut item = blank("template", name.clone(), which.server.instance.clone());
        let template = service.show(&which).await?;
        if template.migrated_to != Some(wanted.set.migrations_digest()) {
            if template.locked {
                return Ok(failed(item, locked(name).message));
            }
            "pending".clone_into(&mut item.state);
            let held = service.migrated_files(&which).await?;
            let is_new =
                |file: &&File| held.iter().all(|held| (&held.key, held.checksum) != (&file.key, file.checksum));
            item.files = files.iter().filter(is_new).map(|file| file.key.to_string()).collect();
        }
        Ok(item)
    }

    /// How a rollout stands, or what came of it.
    pub async fn show(&self, id: &str) -> Result<Rollout, Problem> {
        let operation = self.engine.get(id).await?;
        if operation.kind != ROLLOUT {
            let message = format!("{id} is no rollout of migrations but {}", operation.kind);
            return Err(Problem::not_found("operation_not_found", message));
        }
        let seq = operation.seq;
        let items = self.world.store.read(move |connection| record::items(connection, seq)).await?;
        let complete = operation.state == OperationState::Succeeded;
        Ok(Rollout { operation: Some(operation.id), complete, ended: operation.state.is_final(), items })
    }
}
