//! What is asked of previews: answered from the state where that will do, else turned into operations.

use super::checks::Ttl;
use super::record::{self, Lifetime, PreviewRecord};
use super::remove::nothing_there;
use super::server::Server;
use super::templates;
use super::world::PreviewWorld;
use crate::instances::InstanceService;
use crate::operations::{Engine, NewOperation, Started};
use crate::problem::Problem;
use pgdb_api::previews::{DeletedPreview, Preview};
use pgdb_core::preview::PrNumber;
use rusqlite::Connection;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a request that finds others at work on the same preview begins again before it gives up.
pub(super) const ROUNDS: usize = 20;

/// What previews can be asked. Cheap to clone.
#[derive(Clone)]
pub struct PreviewService {
    /// What it acts through.
    pub world: Arc<PreviewWorld>,
    pub(super) engine: Engine,
    pub(super) instances: InstanceService,
}

/// Which preview is meant: where it is, and how it is called.
#[derive(Clone)]
pub struct Place {
    /// The server that it is on.
    pub server: Arc<Server>,
    /// The template that it is cloned from.
    pub template: String,
    /// Whether that is the configured one.
    pub usual: bool,
    /// The pull request's number.
    pub number: PrNumber,
    /// Its database.
    pub db: String,
    /// Its role.
    pub role: String,
}

impl Place {
    /// Its subject in operations and the audit log.
    pub fn subject(&self) -> String {
        record::subject(&self.server.key, &self.db)
    }

    /// How a command line names it.
    pub(super) fn arguments(&self) -> String {
        arguments(self.usual, self.number, &self.template)
    }
}

fn arguments(usual: bool, number: PrNumber, template: &str) -> String {
    if usual { number.to_string() } else { format!("{number} --template {template}") }
}

/// A result, or the operation that leads to it.
pub enum Progress<T> {
    /// The result.
    Done(T),
    /// The operation.
    Started(Started),
}

impl PreviewService {
    /// A service over these parts.
    pub fn new(world: Arc<PreviewWorld>, engine: Engine, instances: InstanceService) -> Self {
        Self { world, engine, instances }
    }

    /// Which preview is meant by a number, on the configured server or a named instance.
    pub async fn place(&self, on: Option<&str>, template: Option<&str>, number: PrNumber) -> Result<Place, Problem> {
        match self.world.server(on).await {
            Ok(server) => self.world.place(server, template, number),
            Err(problem) if is_unmade(&problem, on) => {
                let template = self.world.template_name(template.unwrap_or("-"))?;
                let names = self.world.config.settings.family(&template).preview(number);
                let usual = template == self.world.config.settings.template();
                Err(no_preview(&names.db, &arguments(usual, number, &template)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// The same for a delete; none where the instance that previews are made on was never needed.
    pub async fn place_to_delete(
        &self,
        on: Option<&str>,
        template: Option<&str>,
        number: PrNumber,
    ) -> Result<Result<Place, DeletedPreview>, Problem> {
        match self.world.server(on).await {
            Ok(server) => self.world.place(server, template, number).map(Ok),
            Err(problem) if is_unmade(&problem, on) => {
                let template = self.world.template_name(template.unwrap_or("-"))?;
                let names = self.world.config.settings.family(&template).preview(number);
                Ok(Err(nothing_there(names.db, names.role)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// The same for an ensure, which makes the instance that previews are on where nobody has named a server.
    pub async fn place_to_make(
        &self,
        on: Option<&str>,
        template: Option<&str>,
        number: PrNumber,
    ) -> Result<Place, Problem> {
        let server = self.server(on).await?;
        self.world.place(server, template, number)
    }

    /// Sets how long a preview lives from now on.
    pub async fn extend(&self, place: &Place, ttl: Ttl) -> Result<Preview, Problem> {
        let now = self.world.clock.now();
        let (again, lifetime) = (place.clone(), self.lifetime(now, Some(ttl), Lifetime::Unsaid));
        let change = move |connection: &Connection| {
            let preview = record::by_db(connection, &again.server.key, &again.db)?;
            let preview = preview.ok_or_else(|| not_found(&again))?;
            record::touch(connection, &preview.id, now, lifetime, None)
        };
        self.world.store.write(change).await?;
        self.show(place).await
    }

    /// Locks a preview against a delete and a reset, or unlocks it.
    pub async fn set_protected(&self, place: &Place, protected: bool) -> Result<Preview, Problem> {
        let again = place.clone();
        let change = move |connection: &Connection| {
            let preview = record::by_db(connection, &again.server.key, &again.db)?;
            let preview = preview.ok_or_else(|| not_found(&again))?;
            record::set_protected(connection, &preview.id, protected)
        };
        self.world.store.write(change).await?;
        self.show(place).await
    }

    /// One preview, with its password.
    pub async fn show(&self, place: &Place) -> Result<Preview, Problem> {
        let preview = self.record(place).await?.ok_or_else(|| not_found(place))?;
        self.world.wire(&preview, true).await
    }

    /// Every preview, or those on one instance or of one template, without passwords.
    pub async fn list(&self, on: Option<&str>, template: Option<&str>) -> Result<Vec<Preview>, Problem> {
        let template = template.map(|name| self.world.template_name(name)).transpose()?;
        let only = match on {
            Some(name) => Some(self.world.server(Some(name)).await?.key.clone()),
            None => None,
        };
        let previews = self.world.store.read(record::all).await?;
        let mut items = Vec::new();
        let asked_for = |preview: &&PreviewRecord| {
            only.as_ref().is_none_or(|key| *key == preview.target)
                && template.as_ref().is_none_or(|name| *name == preview.template)
        };
        for preview in previews.iter().filter(asked_for) {
            items.push(self.world.wire(preview, false).await?);
        }
        Ok(items)
    }

    /// The preview's row.
    pub(super) async fn record(&self, place: &Place) -> Result<Option<PreviewRecord>, Problem> {
        let (target, db) = (place.server.key.clone(), place.db.clone());
        self.world.store.read(move |connection| record::by_db(connection, &target, &db)).await
    }

    pub(super) async fn start<F>(
        &self,
        kind: &'static str,
        place: &Place,
        input: &impl Serialize,
        prepare: F,
    ) -> Result<Started, Problem>
    where
        F: FnOnce(&Connection) -> Result<(), Problem> + Send + 'static,
    {
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start(NewOperation { kind, subject: place.subject(), input }, prepare).await
    }

    /// Waits for the other operation that stands in the way; any other problem, or no wish to wait, is the answer.
    pub(super) async fn wait_for_other(&self, problem: Problem, wait: bool) -> Result<(), Problem> {
        match (&problem.operation_id, problem.code) {
            (Some(id), "operation_conflict") if wait => {
                // How it ends is its own affair.
                self.engine.wait(id).await.map(drop)
            }
            _ => Err(problem),
        }
    }
}

impl PreviewWorld {
    /// The template that a request means; `-` is the configured one.
    pub fn template_name(&self, given: &str) -> Result<String, Problem> {
        let settings = &self.config.settings;
        if given == "-" || given == settings.template() {
            return Ok(settings.template().to_owned());
        }
        settings.check_template(given, 0).map_err(|_| no_such_template(given))?;
        Ok(given.to_owned())
    }

    /// The templates that previews of a server may be made from: the configured one, and what is known.
    pub(super) async fn templates_on(&self, target: &str) -> Result<BTreeSet<String>, Problem> {
        let names = self.store.read(templates::names).await?;
        let known = names.into_iter().filter(|(of, _)| of == target).map(|(_, name)| name);
        Ok(known.chain([self.config.settings.template().to_owned()]).collect())
    }

    /// The names of a preview.
    pub fn place(&self, server: Arc<Server>, template: Option<&str>, number: PrNumber) -> Result<Place, Problem> {
        let template = self.template_name(template.unwrap_or("-"))?;
        let names = self.config.settings.family(&template).preview(number);
        if self.config.settings.is_protected(&names.db) {
            let message = format!("DB_PROTECTED_NAMES names {}: nothing is made, changed or removed there", names.db);
            return Err(Problem::locked("protected", message));
        }
        let usual = template == self.config.settings.template();
        Ok(Place { server, template, usual, number, db: names.db, role: names.role })
    }
}

pub(super) fn no_such_template(given: &str) -> Problem {
    let shown: String = given.chars().take(80).collect();
    let message =
        format!("there is no template '{}'; `pgdb template list` shows those that there are", shown.escape_debug());
    Problem::not_found("template_not_found", message)
}

pub(super) fn not_found(place: &Place) -> Problem {
    no_preview(&place.db, &place.arguments())
}

fn no_preview(db: &str, arguments: &str) -> Problem {
    let message = format!("there is no preview {db}; `pgdb preview ensure {arguments}` makes it");
    Problem::not_found("preview_not_found", message)
}

/// Whether no server was named, and the instance that is meant then was not deployed yet, or is gone.
fn is_unmade(problem: &Problem, on: Option<&str>) -> bool {
    on.is_none() && problem.code == "database_not_found"
}

pub(super) fn too_many_rounds(place: &Place) -> Problem {
    let message = format!("{} keeps being changed by others; try again in a moment", place.db);
    Problem { retry_after: Some(Duration::from_secs(2)), ..Problem::busy("preview_busy", message) }
}
