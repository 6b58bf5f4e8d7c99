//! An ensure: answered from the state and one look where that will do, else turned into an operation.

use super::checks::{Ttl, Wanted};
use super::entries;
use super::look::Look;
use super::record::{self, Lifetime, PreviewRecord, PreviewState};
use super::steps::{ENSURE, EnsureInput, EntryNames, Found};
use super::templates::{self};
use super::world::PreviewWorld;
use crate::operations::{Choice, NewOperation, OperationRecord, Started};
use crate::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use pgdb_api::previews::EnsuredPreview;
use pgdb_core::random;
use rusqlite::Connection;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::sync::atomic::Ordering;

use super::service::{Place, PreviewService, Progress, ROUNDS, too_many_rounds};

/// The code of an ensure that finds in its own transaction that what it looked at is no more. Nobody is told.
const CHANGED: &str = "preview_changed";

impl PreviewService {
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
                    let operation = self.engine.finish(&started.id).await?;
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

    /// Notes that a preview was asked for, if that changes something: an ensure of what is there costs no commit.
    pub(super) async fn touch(&self, preview: &PreviewRecord, wanted: &Wanted) -> Result<(), Problem> {
        /// Times are kept no more exactly than this.
        const GRAIN: SignedDuration = SignedDuration::from_mins(1);
        let now = self.world.clock.now();
        let lifetime = self.lifetime(now, wanted.ttl, preview.lifetime);
        let apart = |a: Timestamp, b: Timestamp| a.duration_since(b).abs() >= GRAIN;
        let moved = match (preview.lifetime, lifetime) {
            (Lifetime::Until(before), Lifetime::Until(after)) => apart(before, after) || wanted.ttl.is_some(),
            (before, after) => before != after,
        };
        let labels = wanted.labels.clone().filter(|labels| *labels != preview.labels);
        if !moved && labels.is_none() && !apart(preview.used_at, now) {
            return Ok(());
        }
        let id = preview.id.clone();
        let change = move |connection: &Connection| record::touch(connection, &id, now, lifetime, labels.as_ref());
        self.world.store.write(change).await
    }

    /// How long a preview that is asked for now is to live. Asking again prolongs, and never shortens what somebody asked
    /// for expressly.
    pub(super) fn lifetime(&self, now: Timestamp, ttl: Option<Ttl>, present: Lifetime) -> Lifetime {
        let until = |seconds: u64| {
            let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.checked_add(span).map_or(Lifetime::Forever, Lifetime::Until)
        };
        match (ttl, self.world.config.ttl_seconds, present) {
            (Some(Ttl::Never), _, _) => Lifetime::Forever,
            (Some(Ttl::Seconds(seconds)), _, _) => until(seconds),
            (None, None, present) | (None, _, present @ Lifetime::Forever) => present,
            (None, Some(seconds), Lifetime::Unsaid) => until(seconds),
            (None, Some(seconds), Lifetime::Until(at)) => match until(seconds) {
                Lifetime::Until(later) if later > at => Lifetime::Until(later),
                _ => present,
            },
        }
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
            lifetime: self.lifetime(now, wanted.ttl, Lifetime::Unsaid),
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
            let lifetime = if wanted.ttl.is_some() { new.lifetime } else { present.lifetime };
            record::touch(connection, &present.id, now, lifetime, wanted.labels.as_ref())?;
            record::set_state(connection, &present.id, PreviewState::Creating, None)
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start_with(NewOperation { kind: ENSURE, subject: place.subject(), input }, prepare).await
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

/// Takes an entry of the warm pool for a preview, if there is one of its template as it is now.
fn take_entry(connection: &Connection, preview: &PreviewRecord) -> Result<Value, Problem> {
    let of = (preview.target.as_str(), preview.template.as_str());
    let Some(entry) = entries::pick(connection, of, preview.generation, preview.number)? else {
        return Ok(Value::Null);
    };
    entries::take(connection, (&entry.target, &entry.db), &preview.db)?;
    let names = EntryNames { db: entry.db, role: entry.role };
    serde_json::to_value(names).map_err(|error| Problem::internal(error.to_string()))
}

/// Whether an ensure's operation has made a database, as against found one.
fn was_created(operation: &OperationRecord) -> bool {
    operation.steps.last().is_some_and(|step| step.output["created"] == true)
}
