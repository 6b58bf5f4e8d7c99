//! What is asked of previews: answered from the state where that will do, else turned into operations.

use super::checks::{Ttl, Wanted};
use super::entries::{self, EntryRecord, EntryState};
use super::look::Look;
use super::record::{self, PreviewRecord, PreviewState};
use super::server::Server;
use super::steps::{DELETE, DeleteInput, ENSURE, EnsureInput, EntryNames, Found, PREPARE_TEMPLATE};
use super::steps::{PrepareTemplateInput, RESET, ResetInput, role_outcome};
use super::templates::{self, TemplateRecord};
use super::world::PreviewWorld;
use crate::config::TargetConfig;
use crate::instances::InstanceService;
use crate::operations::record as operation_rows;
use crate::operations::{Choice, Engine, NewOperation, OperationRecord, Started};
use crate::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use pgdb_api::instances::DeployRequest;
use pgdb_api::previews::{DeletedPreview, EnsuredPreview, Preview, PreviewPool};
use pgdb_core::instance::InstanceState;
use pgdb_core::preview::PrNumber;
use pgdb_core::random;
use pgdb_pg::look::SeenTemplate;
use rusqlite::Connection;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a request that finds others at work on the same preview begins again before it gives up.
const ROUNDS: usize = 20;
/// The code of an ensure that finds in its own transaction that what it looked at is no more. Nobody is told.
const CHANGED: &str = "preview_changed";

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
        let server = self.world.server(on).await?;
        self.world.place(server, template, number)
    }

    /// The same for an ensure, which makes the instance that previews are on where nobody has named a server.
    pub async fn place_to_make(&self, on: Option<&str>, number: PrNumber) -> Result<Place, Problem> {
        let server = self.server(on).await?;
        self.world.place(server, None, number)
    }

    /// The server of a request; our own instance is deployed at the first use.
    async fn server(&self, on: Option<&str>) -> Result<Arc<Server>, Problem> {
        let own = match &self.world.config.target {
            TargetConfig::Instance(name) if on.is_none_or(|on| on == name) => name.clone(),
            _ => return self.world.server(on).await,
        };
        for _ in 0..ROUNDS {
            match self.world.server(Some(&own)).await {
                Err(problem) if problem.code == "database_not_found" => {}
                Ok(server) => {
                    self.wait_for_deploy(&own).await?;
                    return Ok(server);
                }
                Err(problem) => return Err(problem),
            }
            let request = DeployRequest { name: Some(own.clone()), ..DeployRequest::default() };
            match self.instances.start_deploy(request).await {
                Ok((started, _)) => {
                    tracing::info!(instance = %own, "deploying the instance that previews are made on");
                    self.finish(&started.id).await?;
                }
                // Another request was quicker.
                Err(problem) if problem.code == "name_taken" => {}
                Err(problem) => self.wait_for_other(problem, true).await?,
            }
        }
        Err(Problem::busy("preview_busy", format!("the instance '{own}' keeps being changed by others")))
    }

    /// An instance that is being deployed cannot be used yet.
    async fn wait_for_deploy(&self, name: &str) -> Result<(), Problem> {
        let instance = self.world.instances.by_name(name).await?;
        if instance.state != InstanceState::Creating {
            return Ok(());
        }
        let subject = instance.subject();
        let active = self.world.store.read(move |connection| operation_rows::active_on(connection, &subject)).await?;
        match active {
            Some(operation) => self.finish(&operation.id).await.map(drop),
            None => Ok(()),
        }
    }

    /// Sees to it that a preview is there.
    pub async fn ensure(
        &self,
        place: &Place,
        wanted: &Wanted,
        wait: bool,
    ) -> Result<Progress<EnsuredPreview>, Problem> {
        let _waiting = Waiting::new(&self.world);
        for _ in 0..ROUNDS {
            // The record before the look: what the look says was so when the record said what it says, or later.
            let known = self.record(place).await?;
            let ready = known.as_ref().is_some_and(|preview| preview.state == PreviewState::Ready);
            let seen = if ready { self.look(place).await? } else { self.look_at_names(place).await? };
            if let Some(preview) = &known
                && let Some(answer) = self.present(place, wanted, preview, &seen).await?
            {
                return Ok(Progress::Done(answer));
            }
            let generation = self.template_ready(place, seen.template).await?;
            match self.start_ensure(place, wanted, known, &seen, generation, wait).await {
                Ok(started) if !wait => return Ok(Progress::Started(started)),
                Ok(started) => {
                    let operation = self.finish(&started.id).await?;
                    let created = !started.joined && was_created(&operation);
                    if let Some(answer) = self.told(place, created).await? {
                        return Ok(Progress::Done(answer));
                    }
                    // It was deleted again meanwhile.
                }
                Err(problem) if problem.code == CHANGED => {}
                Err(problem) => self.wait_for_other(problem, wait).await?,
            }
        }
        Err(too_many_rounds(place))
    }

    /// The preview's answer, if it is there and can be used.
    async fn present(
        &self,
        place: &Place,
        wanted: &Wanted,
        preview: &PreviewRecord,
        seen: &Look,
    ) -> Result<Option<EnsuredPreview>, Problem> {
        if preview.state != PreviewState::Ready || !seen.usable() {
            return Ok(None);
        }
        let password = self.world.password(&place.server, &place.db, &place.role).await?;
        if !seen.password_is(&preview.mark, &password.fingerprint) {
            return Ok(None);
        }
        self.touch(preview, wanted).await?;
        Ok(Some(self.answer(preview, password.password.expose_secret()).await?))
    }

    /// The answer after an ensure's operation; `created` when it is ours to say so.
    async fn told(&self, place: &Place, created: bool) -> Result<Option<EnsuredPreview>, Problem> {
        match self.record(place).await? {
            Some(preview) if preview.state == PreviewState::Ready => {
                let password = self.world.password(&place.server, &place.db, &place.role).await?;
                let answer = self.answer(&preview, password.password.expose_secret()).await?;
                Ok(Some(EnsuredPreview { created: created || answer.created, ..answer }))
            }
            _ => Ok(None),
        }
    }

    /// Of all who are told of a preview that was created exactly one is told that it was: the one whose request made
    /// it, if that waits; else whoever asks first, which is written down before it is said. So it is after a crash too.
    async fn answer(&self, preview: &PreviewRecord, password: &str) -> Result<EnsuredPreview, Problem> {
        let created = preview.news && {
            let id = preview.id.clone();
            self.world.store.write(move |connection| record::take_news(connection, &id)).await?
        };
        Ok(EnsuredPreview {
            db_name: preview.db.clone(),
            created,
            app_user: preview.role.clone(),
            app_password: password.to_owned(),
        })
    }

    /// Begins to look at a template anew.
    pub async fn prepare_template(&self, on: Option<&str>, template: &str) -> Result<Started, Problem> {
        let server = self.server(on).await?;
        let template = self.world.template_name(template)?.to_owned();
        self.start_prepare(&server, &template).await
    }

    async fn start_prepare(&self, server: &Server, template: &str) -> Result<Started, Problem> {
        let input = PrepareTemplateInput { target: server.key.clone(), template: template.to_owned() };
        let subject = format!("template/{}/{template}", server.key);
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: PREPARE_TEMPLATE, subject, input };
        self.engine.start(new, |_: &Connection| Ok(())).await
    }

    /// A template that is prepared.
    pub async fn template(&self, on: Option<&str>, template: &str) -> Result<TemplateRecord, Problem> {
        let key = self.world.server(on).await?.key.clone();
        let name = self.world.template_name(template)?.to_owned();
        let found = self.world.store.read(move |connection| templates::find(connection, &key, &name)).await?;
        found.ok_or_else(|| {
            let message = "it was not looked at yet; POST /v1/previews/{template}/prepare does, and so does an ensure";
            Problem::not_found("template_not_found", message)
        })
    }

    /// An entry of a template's pool by its database. One that no row knows is what is left of one, at most.
    pub async fn entry(&self, template: &TemplateRecord, entry: &str) -> Result<EntryRecord, Problem> {
        let unknown = || Problem::not_found("preview_not_found", "the pool has no such entry");
        let names = self.world.config.settings.pool_names(entry.rsplit('_').next().unwrap_or_default());
        if names.db != entry {
            return Err(unknown());
        }
        let (key, db) = (template.target.clone(), names.db.clone());
        let found = self.world.store.read(move |connection| entries::find(connection, &key, &db)).await?;
        Ok(found.unwrap_or_else(|| EntryRecord {
            target: template.target.clone(),
            db: names.db,
            role: names.role,
            template: template.name.clone(),
            generation: template.generation,
            state: EntryState::Dropping,
            number: None,
            mark: record::PasswordMark::default(),
            made_at: self.world.clock.now(),
        }))
    }

    /// Sees to it that the template is prepared. Returns its generation.
    async fn template_ready(&self, place: &Place, seen: Option<SeenTemplate>) -> Result<u64, Problem> {
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
                    self.finish(&started.id).await?;
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

    /// Notes that a preview was asked for, if that changes something: an ensure of what is there costs no commit.
    async fn touch(&self, preview: &PreviewRecord, wanted: &Wanted) -> Result<(), Problem> {
        /// Times are kept no more exactly than this.
        const GRAIN: SignedDuration = SignedDuration::from_mins(1);
        let now = self.world.clock.now();
        let expires_at = self.expiry(now, wanted.ttl, preview.expires_at);
        let apart = |a: Timestamp, b: Timestamp| a.duration_since(b).abs() >= GRAIN;
        let moved = match (preview.expires_at, expires_at) {
            (Some(before), Some(after)) => apart(before, after) || wanted.ttl.is_some(),
            (before, after) => before != after,
        };
        let labels = wanted.labels.clone().filter(|labels| *labels != preview.labels);
        if !moved && labels.is_none() && !apart(preview.used_at, now) {
            return Ok(());
        }
        let id = preview.id.clone();
        let change = move |connection: &Connection| record::touch(connection, &id, now, expires_at, labels.as_ref());
        self.world.store.write(change).await
    }

    /// When a preview that is asked for now is to be deleted. What nobody set a time for keeps none.
    fn expiry(&self, now: Timestamp, ttl: Option<Ttl>, present: Option<Timestamp>) -> Option<Timestamp> {
        let seconds = match ttl {
            Some(Ttl::Never) => return None,
            Some(Ttl::Seconds(seconds)) => seconds,
            None => self.world.config.ttl_seconds?,
        };
        let at = now.checked_add(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))).ok();
        // Asking again prolongs, and never shortens what somebody asked for expressly.
        if ttl.is_none() { at.max(present) } else { at }
    }

    async fn start_ensure(
        &self,
        place: &Place,
        wanted: &Wanted,
        known: Option<PreviewRecord>,
        seen: &Look,
        generation: u64,
        waits: bool,
    ) -> Result<Started, Problem> {
        let now = self.world.clock.now();
        let found = if seen.database.is_some() { Found::Database } else { Found::Nothing };
        let input = EnsureInput {
            target: place.server.key.clone(),
            template: place.template.clone(),
            number: place.number.get(),
            found,
            known: known.is_some(),
            generation,
            entry: None,
            teller: waits.then(|| self.world.run_id.clone()),
        };
        let new = PreviewRecord {
            id: format!("pv_{}", random::lower_alnum(&*self.world.entropy, 16)),
            target: place.server.key.clone(),
            template: place.template.clone(),
            number: place.number.get(),
            db: place.db.clone(),
            role: place.role.clone(),
            state: PreviewState::Creating,
            reason: None,
            news: false,
            protected: false,
            labels: wanted.labels.clone().unwrap_or_default(),
            generation,
            mark: record::PasswordMark::default(),
            created_at: now,
            used_at: now,
            expires_at: self.expiry(now, wanted.ttl, None),
        };
        let (max, wanted) = (self.world.config.max, wanted.clone());
        let known = known.map(|preview| (preview.id, preview.state));
        let pooled = found == Found::Nothing;
        let prepare = move |connection: &Connection, choice: Choice<'_>| {
            if pooled && !choice.joins {
                choice.input["entry"] = take_entry(connection, &new)?;
            }
            let present = record::by_db(connection, &new.target, &new.db)?;
            let now_known = present.as_ref().map(|preview| (preview.id.clone(), preview.state));
            // Whoever made it ready, or removed it, since we looked has made our look worthless.
            let ready = present.as_ref().is_some_and(|preview| preview.state == PreviewState::Ready);
            if now_known != known && (ready || present.is_none()) {
                return Err(Problem::busy(CHANGED, "it has changed since it was looked at"));
            }
            let Some(present) = present else {
                let count = record::count(connection, &new.target, &new.template)?;
                if count >= max {
                    let message = format!(
                        "{} has {count} previews, and PGDB_PREVIEW_MAX is {max}; delete some, see `pgdb preview list`",
                        new.template
                    );
                    return Err(Problem::conflict("preview_limit", message));
                }
                templates::saw_number(connection, &new.target, &new.template, new.number)?;
                return record::insert(connection, &new);
            };
            let expires_at = if wanted.ttl.is_some() { new.expires_at } else { present.expires_at };
            record::touch(connection, &present.id, now, expires_at, wanted.labels.as_ref())?;
            record::set_state(connection, &present.id, PreviewState::Creating, None)
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start_with(NewOperation { kind: ENSURE, subject: place.subject(), input }, prepare).await
    }

    /// Removes a preview.
    pub async fn delete(&self, place: &Place, wait: bool) -> Result<Progress<DeletedPreview>, Problem> {
        for _ in 0..ROUNDS {
            let known = self.record(place).await?;
            let seen = match self.look_at_once(place).await {
                Ok(seen) => seen,
                // What is known of has to go all the same, once its server is back.
                Err(_) if known.is_some() => Look::assumed(),
                Err(problem) => return Err(problem),
            };
            if known.is_none() && seen.database.is_none() && seen.role.is_none() {
                return Ok(Progress::Done(nothing_there(place)));
            }
            let input = DeleteInput {
                target: place.server.key.clone(),
                db: place.db.clone(),
                role: place.role.clone(),
                had_database: seen.database.is_some(),
                had_role: seen.role.is_some(),
            };
            let (target, db) = (place.server.key.clone(), place.db.clone());
            let prepare = move |connection: &Connection| match record::by_db(connection, &target, &db)? {
                Some(preview) if preview.protected => Err(protected(&preview)),
                Some(preview) => record::set_state(connection, &preview.id, PreviewState::Deleting, None),
                None => Ok(()),
            };
            match self.start(DELETE, place, &input, prepare).await {
                Ok(started) if !wait => return Ok(Progress::Started(started)),
                Ok(started) => {
                    let operation = self.finish(&started.id).await?;
                    return Ok(Progress::Done(deleted(place, &operation)));
                }
                Err(problem) => self.wait_for_other(problem, wait).await?,
            }
        }
        Err(too_many_rounds(place))
    }

    /// Removes a preview whose time is over, unless somebody has prolonged it meanwhile.
    pub(super) async fn delete_expired(&self, preview: &PreviewRecord) -> Result<(), Problem> {
        let input = DeleteInput {
            target: preview.target.clone(),
            db: preview.db.clone(),
            role: preview.role.clone(),
            had_database: true,
            had_role: true,
        };
        let (seen, now) = (preview.clone(), self.world.clock.now());
        let prepare = move |connection: &Connection| {
            let present = record::by_db(connection, &seen.target, &seen.db)?;
            let due = |preview: &PreviewRecord| !preview.protected && preview.expires_at.is_some_and(|at| at <= now);
            match present.filter(due) {
                Some(preview) => record::set_state(connection, &preview.id, PreviewState::Deleting, None),
                None => Err(Problem::busy("preview_busy", "it was prolonged, protected or deleted meanwhile")),
            }
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: DELETE, subject: preview.subject(), input };
        self.engine.start(new, prepare).await.map(drop)
    }

    /// Throws away what a preview holds and makes it anew from its template.
    pub async fn reset(&self, place: &Place, wait: bool) -> Result<Progress<Preview>, Problem> {
        for _ in 0..ROUNDS {
            self.record(place).await?.ok_or_else(|| not_found(place))?;
            let seen = self.look_at_names(place).await?;
            let generation = self.template_ready(place, seen.template).await?;
            let input = ResetInput {
                target: place.server.key.clone(),
                template: place.template.clone(),
                number: place.number.get(),
                generation,
            };
            let again = place.clone();
            let prepare = move |connection: &Connection| {
                let preview = record::by_db(connection, &again.server.key, &again.db)?;
                let preview = preview.ok_or_else(|| not_found(&again))?;
                if preview.protected {
                    return Err(protected(&preview));
                }
                record::set_state(connection, &preview.id, PreviewState::Creating, None)
            };
            match self.start(RESET, place, &input, prepare).await {
                Ok(started) if !wait => return Ok(Progress::Started(started)),
                Ok(started) => {
                    self.finish(&started.id).await?;
                    return Ok(Progress::Done(self.show(place).await?));
                }
                Err(problem) => self.wait_for_other(problem, wait).await?,
            }
        }
        Err(too_many_rounds(place))
    }

    /// Sets how long a preview lives from now on.
    pub async fn extend(&self, place: &Place, ttl: Ttl) -> Result<Preview, Problem> {
        let now = self.world.clock.now();
        let (again, expires_at) = (place.clone(), self.expiry(now, Some(ttl), None));
        let change = move |connection: &Connection| {
            let preview = record::by_db(connection, &again.server.key, &again.db)?;
            let preview = preview.ok_or_else(|| not_found(&again))?;
            record::touch(connection, &preview.id, now, expires_at, None)
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

    /// Every preview, or those on one instance, without passwords.
    pub async fn list(&self, on: Option<&str>) -> Result<Vec<Preview>, Problem> {
        let only = match on {
            Some(name) => Some(self.world.server(Some(name)).await?.key.clone()),
            None => None,
        };
        let previews = self.world.store.read(record::all).await?;
        let mut items = Vec::new();
        for preview in previews.iter().filter(|preview| only.as_ref().is_none_or(|key| *key == preview.target)) {
            items.push(self.world.wire(preview, false).await?);
        }
        Ok(items)
    }

    /// What is kept ready, by template.
    pub async fn pools(&self, on: Option<&str>) -> Result<Vec<PreviewPool>, Problem> {
        let only = match on {
            Some(name) => Some(self.world.server(Some(name)).await?.key.clone()),
            None => None,
        };
        let all = self.world.store.read(templates::all).await?;
        let mut pools = Vec::new();
        for template in all.iter().filter(|template| only.as_ref().is_none_or(|key| *key == template.target)) {
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
            size_bytes: template.size_bytes,
            ready: u32::try_from(ready.clone().count()).unwrap_or(u32::MAX),
            making: u32::try_from(making).unwrap_or(u32::MAX),
            entries: ready.clone().map(|entry| entry.db.clone()).collect(),
            numbers: ready.filter_map(|entry| entry.number).collect(),
        })
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

    /// Waits for an operation; its failure is the caller's answer.
    pub(super) async fn finish(&self, id: &str) -> Result<Arc<OperationRecord>, Problem> {
        let operation = self.engine.wait(id).await?;
        crate::operations::outcome(&operation)?;
        Ok(operation)
    }

    /// Waits for the other operation that stands in the way; any other problem, or no wish to wait, is the answer.
    async fn wait_for_other(&self, problem: Problem, wait: bool) -> Result<(), Problem> {
        match (&problem.operation_id, problem.code) {
            (Some(id), "operation_conflict") if wait => {
                // How it ends is its own affair.
                self.engine.wait(id).await.map(drop)
            }
            _ => Err(problem),
        }
    }
}

/// Counts an ensure that somebody waits for.
struct Waiting<'a>(&'a PreviewWorld);

impl<'a> Waiting<'a> {
    fn new(world: &'a PreviewWorld) -> Self {
        world.ensures.fetch_add(1, Ordering::Relaxed);
        world.waiting.fetch_add(1, Ordering::Relaxed);
        Self(world)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PreviewWorld {
    /// The template that a request means; `-` is the configured one.
    pub(super) fn template_name(&self, given: &str) -> Result<&str, Problem> {
        let name = self.config.settings.template();
        if given == "-" || given == name {
            return Ok(name);
        }
        let shown: String = given.chars().take(80).collect();
        let message = format!("there is no template '{}'; there is {name}", shown.escape_debug());
        Err(Problem::not_found("template_not_found", message))
    }

    /// The names of a preview.
    pub fn place(&self, server: Arc<Server>, template: Option<&str>, number: PrNumber) -> Result<Place, Problem> {
        let settings = &self.config.settings;
        let template = self.template_name(template.unwrap_or("-"))?.to_owned();
        let names = settings.names(number).map_err(|error| Problem::invalid("invalid_pr_number", error.to_string()))?;
        Ok(Place { server, template, number, db: names.db, role: names.role })
    }
}

/// Takes an entry of the warm pool for a preview, if there is one of its template as it is now.
fn take_entry(connection: &Connection, preview: &PreviewRecord) -> Result<Value, Problem> {
    let of = (preview.target.as_str(), preview.template.as_str());
    let Some(entry) = entries::pick(connection, of, preview.generation, preview.number)? else {
        return Ok(Value::Null);
    };
    entries::advance(connection, (&entry.target, &entry.db), EntryState::Ready, EntryState::Taken)?;
    let names = EntryNames { db: entry.db, role: entry.role };
    serde_json::to_value(names).map_err(|error| Problem::internal(error.to_string()))
}

/// Whether an ensure's operation has made a database, as against found one.
fn was_created(operation: &OperationRecord) -> bool {
    operation.steps.last().is_some_and(|step| step.output["created"] == true)
}

fn nothing_there(place: &Place) -> DeletedPreview {
    DeletedPreview {
        db_name: place.db.clone(),
        deleted: false,
        app_user: place.role.clone(),
        role_deleted: false,
        role_kept_reason: None,
        noop: true,
        noop_reason: Some("there is neither a database nor a role of this name".to_owned()),
    }
}

fn deleted(place: &Place, operation: &OperationRecord) -> DeletedPreview {
    let had = |what: &str| operation.input[what].as_bool().unwrap_or(false);
    let (role_gone, reason) = role_outcome(operation);
    DeletedPreview {
        db_name: place.db.clone(),
        deleted: had("had_database"),
        app_user: place.role.clone(),
        role_deleted: had("had_role") && role_gone,
        role_kept_reason: reason,
        noop: false,
        noop_reason: None,
    }
}

fn protected(preview: &PreviewRecord) -> Problem {
    let message = format!("{} is protected; run `pgdb preview unprotect {}` first", preview.db, preview.number);
    Problem::locked("protected", message)
}

fn not_found(place: &Place) -> Problem {
    let message = format!("there is no preview {}; `pgdb preview ensure {}` makes it", place.db, place.number);
    Problem::not_found("preview_not_found", message)
}

fn too_many_rounds(place: &Place) -> Problem {
    let message = format!("{} keeps being changed by others; try again in a moment", place.db);
    Problem { retry_after: Some(Duration::from_secs(2)), ..Problem::busy("preview_busy", message) }
}
