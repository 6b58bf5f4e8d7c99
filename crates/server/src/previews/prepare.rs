//! What has to be there before a preview can be: the server, the prepared template, and the pool.

use super::entries::{self, EntryRecord, EntryState};
use super::record::{self};
use super::server::Server;
use super::steps::PREPARE_TEMPLATE;
use super::steps::PrepareTemplateInput;
use super::templates::{self, TemplateRecord};
use crate::config::TargetConfig;
use crate::operations::record as operation_rows;
use crate::operations::{NewOperation, Started};
use crate::problem::Problem;
use pgdb_api::instances::DeployRequest;
use pgdb_api::previews::PreviewPool;
use pgdb_core::instance::InstanceState;
use pgdb_core::preview::Member;
use pgdb_pg::look::SeenTemplate;
use rusqlite::Connection;
use std::sync::Arc;

use super::service::{Place, PreviewService, ROUNDS, no_such_template, too_many_rounds};

impl PreviewService {
    /// The server of a request; our own instance is deployed at the first use.
    pub async fn server(&self, on: Option<&str>) -> Result<Arc<Server>, Problem> {
        let own = match &self.world.config.target {
            TargetConfig::Instance(name) if on.is_none_or(|on| on == name) => name.clone(),
            _ => return self.world.server(on).await,
        };
        for _ in 0..ROUNDS {
            match self.world.server(Some(&own)).await {
                Err(problem) if problem.code == "database_not_found" => {}
                Ok(server) if self.is_settled(&own).await? => return Ok(server),
                Ok(_) => continue,
                Err(problem) => return Err(problem),
            }
            let request = DeployRequest { name: Some(own.clone()), ..DeployRequest::default() };
            match self.instances.start_deploy(request).await {
                Ok((started, _)) => {
                    tracing::info!(instance = %own, "deploying the instance that previews are made on");
                    self.engine.finish(&started.id).await?;
                }
                // Another request was quicker.
                Err(problem) if problem.code == "name_taken" => {}
                Err(problem) => self.wait_for_other(problem, true).await?,
            }
        }
        Err(Problem::busy("preview_busy", format!("the instance '{own}' keeps being changed by others")))
    }

    /// Waits until an instance is deployed that is being deployed. False once one that is being destroyed is gone: then
    /// there is another one to be had under its name.
    async fn is_settled(&self, name: &str) -> Result<bool, Problem> {
        let instance = match self.world.instances.by_name(name).await {
            Err(problem) if problem.code == "database_not_found" => return Ok(false),
            instance => instance?,
        };
        if !matches!(instance.state, InstanceState::Creating | InstanceState::Destroying) {
            return Ok(true);
        }
        let subject = instance.subject();
        let active = self.world.store.read(move |connection| operation_rows::active_on(connection, &subject)).await?;
        match active {
            Some(operation) if instance.state == InstanceState::Destroying => {
                // How it ends is its own affair.
                self.engine.wait(&operation.id).await?;
                Ok(false)
            }
            Some(operation) => self.engine.finish(&operation.id).await.map(|_| true),
            // It may have been gone by the time we looked who is at it.
            None => Ok(self.world.instances.by_name(name).await.is_ok()),
        }
    }

    /// Begins to look at a template anew.
    pub async fn prepare_template(&self, on: Option<&str>, template: &str) -> Result<Started, Problem> {
        let server = self.server(on).await?;
        let template = self.world.template_name(template)?;
        self.start_prepare(&server, &template).await
    }

    pub(super) async fn start_prepare(&self, server: &Server, template: &str) -> Result<Started, Problem> {
        let input = PrepareTemplateInput { target: server.key.clone(), template: template.to_owned() };
        let subject = format!("template/{}/{template}", server.key);
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: PREPARE_TEMPLATE, subject, input };
        self.engine.start(new, |_: &Connection| Ok(())).await
    }

    /// A template that is prepared.
    pub async fn template(&self, on: Option<&str>, template: &str) -> Result<TemplateRecord, Problem> {
        let key = self.world.server(on).await?.key.clone();
        let name = self.world.template_name(template)?;
        let found = self.world.store.read(move |connection| templates::find(connection, &key, &name)).await?;
        found.ok_or_else(|| {
            let message = "it was not looked at yet; POST /v1/previews/{template}/prepare does, and so does an ensure";
            Problem::not_found("template_not_found", message)
        })
    }

    /// An entry of a template's pool by its database. One that no row knows is what is left of one, at most.
    pub async fn entry(&self, template: &TemplateRecord, entry: &str) -> Result<EntryRecord, Problem> {
        let unknown = || Problem::not_found("preview_not_found", "the pool has no such entry");
        let family = self.world.config.settings.family(&template.name);
        let names = match family.of_db(entry) {
            Some(member @ Member::Entry(_)) => family.names(&member),
            _ => return Err(unknown()),
        };
        let (key, db) = (template.target.clone(), names.db.clone());
        let found = self.world.store.read(move |connection| entries::find(connection, &key, &db)).await?;
        Ok(found.unwrap_or_else(|| EntryRecord {
            target: template.target.clone(),
            db: names.db,
            role: names.role,
            template: template.name.clone(),
            generation: template.generation,
            state: EntryState::Dropping,
            taken_by: None,
            number: None,
            mark: record::PasswordMark::default(),
            made_at: self.world.clock.now(),
        }))
    }

    /// Sees to it that the template is prepared. Returns its generation.
    pub(super) async fn template_ready(&self, place: &Place, seen: Option<SeenTemplate>) -> Result<u64, Problem> {
        if seen.is_none() && place.template != self.world.config.settings.template() {
            // The configured one is made, or missed with what mends it; a name that was just typed is not.
            return Err(no_such_template(&place.template));
        }
        for _ in 0..ROUNDS {
            let (target, name) = (place.server.key.clone(), place.template.clone());
            let known = self.world.store.read(move |connection| templates::find(connection, &target, &name)).await?;
            if let (Some(known), Some(seen)) = (&known, seen)
                && known.oid == seen.oid
                && !seen.open
            {
                return Ok(known.generation);
            }
            match self.start_prepare(&place.server, &place.template).await {
                Ok(started) => {
                    self.engine.finish(&started.id).await?;
                    let (target, name) = (place.server.key.clone(), place.template.clone());
                    let found = self.world.store.read(move |connection| templates::find(connection, &target, &name));
                    if let Some(found) = found.await? {
                        return Ok(found.generation);
                    }
                }
                Err(problem) => self.wait_for_other(problem, true).await?,
            }
        }
        Err(too_many_rounds(place))
    }

    /// What is kept ready, by template.
    pub async fn pools(&self, on: Option<&str>, template: Option<&str>) -> Result<Vec<PreviewPool>, Problem> {
        let name = template.map(|name| self.world.template_name(name)).transpose()?;
        let only = match on {
            Some(name) => Some(self.world.server(Some(name)).await?.key.clone()),
            None => None,
        };
        let all = self.world.store.read(templates::all).await?;
        let mut pools = Vec::new();
        let asked_for = |template: &&TemplateRecord| {
            only.as_ref().is_none_or(|key| *key == template.target)
                && name.as_ref().is_none_or(|name| *name == template.name)
        };
        for template in all.iter().filter(asked_for) {
            pools.push(self.pool(template).await?);
        }
        Ok(pools)
    }

    /// What is kept ready of a template.
    pub async fn pool(&self, template: &TemplateRecord) -> Result<PreviewPool, Problem> {
        let entries = self.world.store.read(entries::all).await?;
        let of_it = |entry: &&EntryRecord| {
            entry.target == template.target
                && entry.template == template.name
                && entry.generation == template.generation
        };
        let mine: Vec<&EntryRecord> = entries.iter().filter(of_it).collect();
        let ready = mine.iter().filter(|entry| entry.state == EntryState::Ready);
        let making = mine.iter().filter(|entry| entry.state == EntryState::Making).count();
        let server = self.world.server_of(&template.target).await?;
        Ok(PreviewPool {
            on: server.and_then(|server| server.instance.clone()),
            template: template.name.clone(),
            generation: template.generation,
            strategy: template.strategy.clone(),
            copy_ms: template.timings.by_name(),
            size_bytes: template.size_bytes,
            ready: u32::try_from(ready.clone().count()).unwrap_or(u32::MAX),
            making: u32::try_from(making).unwrap_or(u32::MAX),
            entries: ready.clone().map(|entry| entry.db.clone()).collect(),
            numbers: ready.filter_map(|entry| entry.number).collect(),
        })
    }
}
