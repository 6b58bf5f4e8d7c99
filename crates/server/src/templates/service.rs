//! What is asked of templates: checked, and turned into operations.

use super::record::{self, DefinitionRecord, Holds, subject};
use super::steps::{
    BUILD, BuildInput, DELETE, DeleteInput, MIGRATE, MigrateInput, REFRESH, ROLLBACK, RefreshInput, RollbackInput,
    names,
};
use super::{checks, source};
use crate::instances::world::pg;
use crate::migrations::{self, Set};
use crate::operations::{Engine, NewOperation, Started, step_problem};
use crate::previews::PreviewWorld;
use crate::previews::record as previews;
use crate::previews::server::Server;
use crate::previews::templates::{self, TemplateRecord};
use crate::problem::Problem;
use pgdb_api::migrations::MigrationPolicy;
use pgdb_api::templates::{BuildTemplate, DeletedTemplate, MigrateTemplate, Template, TemplateDefinition};
use pgdb_core::migration::file::File;
use pgdb_core::preview::Member;
use pgdb_core::random;
use pgdb_pg::look::{self, Seen};
use pgdb_pg::{inventory, swap};
use rusqlite::Connection;
use secrecy::SecretString;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What templates can be asked. Cheap to clone.
#[derive(Clone)]
pub struct TemplateService {
    world: Arc<PreviewWorld>,
    engine: Engine,
}

/// Which template is meant.
#[derive(Clone)]
pub struct Which {
    /// The server that it is on.
    pub server: Arc<Server>,
    /// The database.
    pub name: String,
}

/// What is written together with an operation.
#[derive(Default)]
struct Change {
    /// The template's definition, where it has none.
    define: Option<DefinitionRecord>,
    /// The files.
    keep: Option<Set>,
}

impl Which {
    /// Its subject in operations and the audit log.
    pub fn subject(&self) -> String {
        subject(&self.server.key, &self.name)
    }
}

impl TemplateService {
    /// A service over these parts.
    pub fn new(world: Arc<PreviewWorld>, engine: Engine) -> Self {
        Self { world, engine }
    }

    /// Refuses a name that no template can have.
    pub fn check_name(&self, name: &str) -> Result<(), Problem> {
        let checked = self.world.config.settings.check_template(name, names::LONGEST_SUFFIX);
        checked.map_err(|why| Problem::invalid("invalid_name", why.to_string()))
    }

    /// Which template is meant by a name, on the configured server or a named instance.
    pub async fn which(&self, on: Option<&str>, name: &str) -> Result<Which, Problem> {
        self.check_name(name)?;
        Ok(Which { server: self.world.server(on).await?, name: name.to_owned() })
    }

    /// The same on a server with this key; none where the server is gone.
    pub(crate) async fn which_on(&self, key: &str, name: &str) -> Result<Option<Which>, Problem> {
        let server = self.world.server_of(key).await?;
        Ok(server.map(|server| Which { server, name: name.to_owned() }))
    }

    /// Changes how a template is made. What is left out stays as it was.
    pub async fn define(&self, which: &Which, wanted: TemplateDefinition) -> Result<Template, Problem> {
        checks::definition(&wanted)?;
        let source = wanted.source_url.as_ref().filter(|url| !url.is_empty());
        let source = source.map(|url| checks::url("source_url", url).map(|url| source::shown(&url))).transpose()?;
        let seal = |world: &PreviewWorld, aad: &str, url: String| match url.as_str() {
            "" => Ok(None),
            _ => world.seal(aad, &SecretString::from(url)).map(Some),
        };
        let world = Arc::clone(&self.world);
        let change = move |definition: &mut DefinitionRecord| {
            if let Some(url) = wanted.source_url {
                let aad = crate::secrets::TEMPLATE_SOURCE.aad(&definition.id);
                definition.source_url = seal(&world, &aad, url)?;
                definition.source = source;
            }
            if let Some(url) = wanted.admin_url {
                let aad = crate::secrets::TEMPLATE_ADMIN.aad(&definition.id);
                definition.admin_url = seal(&world, &aad, url)?;
            }
            if let Some(mask) = wanted.mask {
                definition.mask = Some(mask).filter(|mask| !mask.trim().is_empty());
            }
            if let Some(patterns) = wanted.exclude_table_data {
                definition.exclude_table_data = patterns;
            }
            definition.checks = wanted.checks.unwrap_or(std::mem::take(&mut definition.checks));
            definition.jobs = wanted.jobs.unwrap_or(definition.jobs);
            Ok(())
        };
        self.change(which, change).await?;
        self.show(which).await
    }

    /// Changes the template's definition, or a new one that says nothing, in one transaction.
    async fn change<F>(&self, which: &Which, change: F) -> Result<(), Problem>
    where
        F: FnOnce(&mut DefinitionRecord) -> Result<(), Problem> + Send + 'static,
    {
        let new = self.new_definition(which);
        let write = move |connection: &Connection| {
            let mut definition = record::find(connection, &new.target, &new.name)?.unwrap_or(new);
            change(&mut definition)?;
            record::put(connection, &definition)
        };
        self.world.store.write(write).await
    }

    /// A definition that says nothing.
    fn new_definition(&self, which: &Which) -> DefinitionRecord {
        let id = format!("tp_{}", random::lower_alnum(&*self.world.entropy, 16));
        DefinitionRecord::new(id, which.server.key.clone(), which.name.clone())
    }

    /// The template's definition, or a new one that says nothing.
    async fn definition(&self, which: &Which) -> Result<DefinitionRecord, Problem> {
        let (target, name) = (which.server.key.clone(), which.name.clone());
        let found = self.world.store.read(move |connection| record::find(connection, &target, &name)).await?;
        Ok(found.unwrap_or_else(|| self.new_definition(which)))
    }

    /// Begins a refresh: from an uploaded dump, or from the template's source.
    pub async fn start_refresh(&self, which: &Which, dump: Option<PathBuf>) -> Result<Started, Problem> {
        let definition = self.definition(which).await?;
        if dump.is_none() && definition.source_url.is_none() {
            let message = format!(
                "nothing is known of where '{0}' comes from; give a source (`pgdb template create {0} --source-url-file FILE`) \
                 or a dump (`pgdb template refresh {0} --dump FILE`)",
                which.name
            );
            return Err(Problem::conflict("template_source_missing", message));
        }
        let input = RefreshInput { names: self.names(which), spool: dump };
        self.start(REFRESH, which, &input, Change { define: Some(definition), keep: None }).await
    }

    /// Begins a build from files; none where it was built from the same ones.
    pub async fn start_build(&self, which: &Which, build: BuildTemplate) -> Result<Option<Started>, Problem> {
        let set = Set::new(build.files, build.seed)?;
        let digest = set.digest();
        // A database that somebody else has put there was not built from anything that is known.
        if !build.force && self.look(which).await?.built_from.as_ref() == Some(&digest) {
            return Ok(None);
        }
        let definition = self.definition(which).await?;
        let input = BuildInput { names: self.names(which), set: digest };
        self.start(BUILD, which, &input, Change { define: Some(definition), keep: Some(set) }).await.map(Some)
    }

    /// Begins to migrate a template; none where it holds these migrations already.
    pub async fn start_migrate(&self, which: &Which, migrate: MigrateTemplate) -> Result<Option<Started>, Problem> {
        let set = Set::new(migrate.files, None)?;
        migrations::options(&migrate.policy)?;
        self.start_migrate_to(which, set, migrate.policy).await
    }

    /// The same with files that were checked.
    pub(crate) async fn start_migrate_to(
        &self,
        which: &Which,
        set: Set,
        policy: MigrationPolicy,
    ) -> Result<Option<Started>, Problem> {
        let digest = set.migrations_digest();
        let seen = self.look(which).await?;
        if !seen.exists {
            let message = format!("there is no database '{0}'; `pgdb template build {0}` makes it", which.name);
            return Err(Problem::conflict("template_missing", message));
        }
        if seen.migrated_to.as_ref() == Some(&digest) {
            return Ok(None);
        }
        let definition = self.definition(which).await?;
        let input = MigrateInput { names: self.names(which), set: digest, policy };
        self.start(MIGRATE, which, &input, Change { define: Some(definition), keep: Some(set) }).await.map(Some)
    }

    /// The migrations that it holds, if that is known and they were kept.
    pub(crate) async fn migrated_files(&self, which: &Which) -> Result<Vec<File>, Problem> {
        let Holds { built_from, migrated_to } = self.definition(which).await?.holds;
        // As it was migrated, or as it was built: with a script after them.
        for digest in migrated_to.iter().chain(&built_from) {
            let set = Set::find(&self.world.store, digest).await?;
            if let Some(set) = set.filter(|set| migrated_to.as_ref() == Some(&set.migrations_digest())) {
                return Ok(set.files());
            }
        }
        Ok(Vec::new())
    }

    /// Begins a rollback: the template and the one before it change places.
    pub async fn start_rollback(&self, which: &Which) -> Result<Started, Problem> {
        let session = self.world.session(&which.server).await.map_err(step_problem)?;
        let names = self.names(which);
        let previous = swap::oid(&session, &names.previous).await.map_err(|error| step_problem(pg(error)))?;
        session.release();
        let previous = previous.ok_or_else(|| {
            let message = format!(
                "no template is kept from before '{}': there is no database {}; one is kept when a refresh, a build or a \
                 migration takes the place of a template that is there",
                which.name, names.previous
            );
            Problem::conflict("template_previous_missing", message)
        })?;
        self.start(ROLLBACK, which, &RollbackInput { names, previous }, Change::default()).await
    }

    /// Begins to remove a template and everything of it but previews, which must be gone.
    pub async fn start_delete(&self, which: &Which) -> Result<Started, Problem> {
        let family = self.world.config.settings.family(&which.name);
        let session = self.world.session(&which.server).await.map_err(step_problem)?;
        let found = inventory::databases(&session, family.prefix()).await.map_err(|error| step_problem(pg(error)))?;
        session.release();
        let preview = |db: &String| matches!(family.of_db(db), Some(Member::Preview(_)));
        let left = found.into_iter().map(|found| found.name).find(preview);
        let input = DeleteInput { target: which.server.key.clone(), template: which.name.clone() };
        let (again, new) = (which.clone(), self.new_definition(which));
        let prepare = move |connection: &Connection| {
            let (target, name) = (&again.server.key, &again.name);
            let known = record::find(connection, target, name)?;
            if known.is_none() && templates::find(connection, target, name)?.is_none() {
                return Err(not_found(&again));
            }
            if known.as_ref().is_some_and(|known| known.locked) {
                return Err(locked(name));
            }
            let count = previews::count(connection, target, name)?;
            if count > 0 || left.is_some() {
                let left = left.unwrap_or_else(|| format!("{count} of them"));
                let message = format!("there are previews of '{name}' ({left}); `pgdb preview delete` removes them");
                return Err(Problem::conflict("template_in_use", message));
            }
            // From now on nothing is made ready of it. What was said of it is kept until it is gone.
            templates::forget(connection, target, name)?;
            if known.is_none() { record::put(connection, &new) } else { Ok(()) }
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start(NewOperation { kind: DELETE, subject: which.subject(), input }, prepare).await
    }

    /// What a delete has led to.
    pub async fn deleted(&self, which: &Which) -> Result<DeletedTemplate, Problem> {
        let dropped = self.seen(which).await?.template.is_none();
        Ok(DeletedTemplate { name: which.name.clone(), dropped })
    }

    /// A name of its own for what the operation makes on the way.
    fn names(&self, which: &Which) -> names::Names {
        names::Names::new(&which.server.key, &which.name, self.world.clock.now(), &*self.world.entropy)
    }

    async fn start(
        &self,
        kind: &'static str,
        which: &Which,
        input: &impl Serialize,
        change: Change,
    ) -> Result<Started, Problem> {
        let (target, name) = (which.server.key.clone(), which.name.clone());
        let prepare = move |connection: &Connection| {
            let known = record::find(connection, &target, &name)?;
            if known.as_ref().is_some_and(|known| known.locked) {
                return Err(locked(&name));
            }
            if let (None, Some(definition)) = (known, &change.define) {
                record::put(connection, definition)?;
            }
            change.keep.as_ref().map_or(Ok(()), |set| set.keep(connection))
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start(NewOperation { kind, subject: which.subject(), input }, prepare).await
    }

    /// Refuses refreshes, rollbacks and builds from now on, or allows them again.
    pub async fn set_locked(&self, which: &Which, locked: bool) -> Result<Template, Problem> {
        self.show(which).await?;
        let change = move |definition: &mut DefinitionRecord| {
            definition.locked = locked;
            Ok(())
        };
        self.change(which, change).await?;
        self.show(which).await
    }

    /// One template as it stands.
    pub async fn show(&self, which: &Which) -> Result<Template, Problem> {
        let item = self.look(which).await?;
        let (target, name) = (which.server.key.clone(), which.name.clone());
        let defined = self.world.store.read(move |connection| record::find(connection, &target, &name)).await?;
        if !item.exists && defined.is_none() {
            return Err(not_found(which));
        }
        Ok(item)
    }

    async fn look(&self, which: &Which) -> Result<Template, Problem> {
        let seen = self.seen(which).await?;
        self.item(which, &seen).await
    }

    /// The template, and the one before it as the database.
    async fn seen(&self, which: &Which) -> Result<Seen, Problem> {
        let names = self.names(which);
        let session = self.world.session(&which.server).await.map_err(step_problem)?;
        let seen = look::look(&session, &which.name, &names.previous, "").await;
        let seen = seen.map_err(|error| step_problem(pg(error)))?;
        session.release();
        Ok(seen)
    }

    async fn item(&self, which: &Which, seen: &Seen) -> Result<Template, Problem> {
        let (target, name) = (which.server.key.clone(), which.name.clone());
        let found = self.world.store.read(move |connection| {
            Ok((templates::find(connection, &target, &name)?, record::find(connection, &target, &name)?))
        });
        let (known, definition) = found.await?;
        let definition = definition
            .unwrap_or_else(|| DefinitionRecord::new(String::new(), which.server.key.clone(), which.name.clone()));
        let known = known.filter(|known: &TemplateRecord| seen.template.is_some_and(|seen| seen.oid == known.oid));
        Ok(Template {
            name: which.name.clone(),
            on: which.server.instance.clone(),
            exists: seen.template.is_some(),
            has_previous: seen.database.is_some_and(|previous| previous.valid),
            open: seen.template.is_some_and(|template| template.open),
            locked: definition.locked,
            size_bytes: known.as_ref().map(|known| known.size_bytes),
            strategy: known.as_ref().map(|known| known.strategy.clone()),
            copy_ms: known.as_ref().map(|known| known.timings.by_name()).unwrap_or_default(),
            generation: known.as_ref().map(|known| known.generation),
            prepared_at: known.as_ref().map(|known| known.prepared_at),
            refreshed_at: definition.refreshed_at,
            source: definition.source,
            exclude_table_data: definition.exclude_table_data,
            masked: definition.mask.is_some(),
            checks: definition.checks,
            jobs: definition.jobs,
            built_from: definition.holds.built_from.filter(|_| known.is_some()),
            migrated_to: definition.holds.migrated_to.filter(|_| known.is_some()),
            unchanged: false,
            problem: None,
        })
    }

    /// Every template that is known: those that were defined, those that were cloned, and the configured one.
    pub async fn list(&self, on: Option<&str>) -> Result<Vec<Template>, Problem> {
        let wanted = self.world.store.read(|connection| {
            let mut wanted: Vec<(String, String)> =
                record::all(connection)?.into_iter().map(|found| (found.target, found.name)).collect();
            wanted.extend(templates::names(connection)?);
            Ok(wanted)
        });
        let mut wanted = wanted.await?;
        if let Ok(server) = self.world.server(on).await {
            wanted.push((server.key.clone(), self.world.config.settings.template().to_owned()));
            wanted.retain(|(target, _)| on.is_none() || *target == server.key);
        }
        wanted.sort();
        wanted.dedup();
        let mut items = Vec::new();
        for (target, name) in wanted {
            let Some(server) = self.world.server_of(&target).await? else { continue };
            let which = Which { server, name };
            let item = match self.seen(&which).await {
                Ok(seen) => self.item(&which, &seen).await?,
                // One server that does not answer is no reason to be silent about the others.
                Err(problem) => {
                    Template { problem: Some(problem.message), ..self.item(&which, &Seen::default()).await? }
                }
            };
            if item.exists || item.problem.is_some() || item.source.is_some() || item.refreshed_at.is_some() {
                items.push(item);
            }
        }
        Ok(items)
    }
}

fn not_found(which: &Which) -> Problem {
    let message = format!("there is no template '{}'; `pgdb template create {0}` makes one", which.name);
    Problem::not_found("template_not_found", message)
}

/// What is said of a template that is not to be changed.
pub(crate) fn locked(name: &str) -> Problem {
    Problem::locked("protected", format!("'{name}' is locked; run `pgdb template unlock {name}` first"))
}
