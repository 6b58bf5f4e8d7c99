//! The warm pool: how many clones are kept ready, of which template, and for which numbers.
//!
//! It takes no input but the rows, and does nothing when they are as they should be. What it does, operations do, but
//! for the verifiers of entries that are ready: those are set anew in place, and the row says first that it does not
//! know which one an entry has.

use super::entries::{self, EntryRecord, EntryState};
use super::reconcile::Keeper;
use super::record;
use super::steps::{ENSURE, EntryInput, POOL_DROP, POOL_FILL, begin_drop};
use super::templates::TemplateRecord;
use crate::operations::{NewOperation, Started};
use crate::problem::Problem;
use crate::store::rows::micros;
use jiff::SignedDuration;
use pgdb_core::preview::{ENTRY_SUFFIX, PrNumber};
use pgdb_core::random;
use rusqlite::{Connection, params};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// After a fill that failed none is begun for so long.
const AFTER_FAILURE_MS: u64 = 30_000;
/// An entry that is one too many stays for so long: what was made is not thrown away at once.
const SURPLUS_STAYS: SignedDuration = SignedDuration::from_mins(15);
/// Ensures that are counted at most; no pool is as large.
const COUNTED: u32 = 1000;

/// How many entries to keep, of how often previews were asked for in the last hour and the last day. Pure.
pub(super) fn plan_size(last_hour: u32, last_day: u32, least: u32, most: u32) -> u32 {
    let demand = if last_day == 0 { 0 } else { last_hour.max(1) };
    demand.clamp(least, most.max(least))
}

/// Which numbers come next. Pure.
fn foreseen(highest: u64, count: usize) -> impl Iterator<Item = u64> {
    (1..).map(move |ahead| highest.saturating_add(ahead)).take(count)
}

impl Keeper {
    /// Brings the pool of one template to what it should be.
    pub(super) async fn keep_pool(&self, template: &TemplateRecord, busy: &[Value]) -> Result<(), Problem> {
        let (target, name) = (template.target.clone(), template.name.clone());
        let all = self.world.store.read(entries::all).await?;
        let mine: Vec<EntryRecord> =
            all.into_iter().filter(|entry| entry.target == target && entry.template == name).collect();
        let want = self.wanted_size(template).await?;
        let (mut ready, mut making) = (Vec::new(), 0usize);
        for entry in mine {
            let at_work = busy.iter().any(|input| names(input) == Some(entry.db.as_str()));
            match entry.state {
                EntryState::Ready if entry.generation == template.generation => ready.push(entry),
                EntryState::Making if at_work && entry.generation == template.generation => making += 1,
                _ if at_work => {}
                // Of an older generation, or left behind by an operation that could not be taken back.
                _ => self.drop_entry(&entry).await?,
            }
        }
        let want = usize::try_from(want).unwrap_or(usize::MAX);
        let now = self.world.clock.now();
        while ready.len() > want
            && ready.first().is_some_and(|oldest| now.duration_since(oldest.made_at) >= SURPLUS_STAYS)
        {
            let entry = ready.remove(0);
            self.drop_entry(&entry).await?;
        }
        self.aim(template, &ready).await?;
        let clones = usize::try_from(self.world.config.clones).unwrap_or(1);
        let missing = want.saturating_sub(ready.len() + making).min(clones.saturating_sub(making));
        // 0: it never failed.
        let failed_ms = self.world.fill_failed_ms.load(Ordering::Relaxed);
        let rested = self.world.clock.monotonic_ms().saturating_sub(failed_ms) >= AFTER_FAILURE_MS;
        if missing > 0 && (failed_ms == 0 || rested) {
            let taken: BTreeSet<u64> = ready.iter().filter_map(|entry| entry.number).collect();
            let numbers = foreseen(template.highest, want + making).filter(|number| !taken.contains(number));
            for number in numbers.skip(making).take(missing) {
                self.fill(template, number).await?;
            }
        }
        Ok(())
    }

    async fn wanted_size(&self, template: &TemplateRecord) -> Result<u32, Problem> {
        let now = self.world.clock.now();
        let ago = |hours| now.checked_sub(SignedDuration::from_hours(hours)).map_or(i64::MIN, micros);
        let (hour, day) = (ago(1), ago(24));
        let prefix = record::subject(&template.target, self.world.config.settings.family(&template.name).prefix());
        let counts = self.world.store.read(move |connection| {
            let sql = "SELECT count(*) FILTER (WHERE created_at >= ?2), count(*) FILTER (WHERE created_at >= ?3) FROM \
                       (SELECT created_at FROM operations WHERE kind = ?1 AND substr(subject, 1, length(?4)) = ?4 ORDER BY seq DESC LIMIT ?5)";
            let row = connection.prepare_cached(sql)?.query_row(params![ENSURE, hour, day, prefix, COUNTED], |row| {
                Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))
            });
            Ok(row?)
        });
        let (last_hour, last_day) = counts.await?;
        Ok(plan_size(last_hour, last_day, self.world.config.pool_min, self.world.config.pool_max))
    }

    /// Begins to make one more entry of a template, for the next number that none is made for.
    pub async fn warm(&self, template: &TemplateRecord) -> Result<Started, Problem> {
        let all = self.world.store.read(entries::all).await?;
        let taken: BTreeSet<u64> = all.iter().filter_map(|entry| entry.number).collect();
        let number = foreseen(template.highest, all.len() + 1).find(|number| !taken.contains(number));
        self.fill(template, number.unwrap_or(template.highest + 1)).await
    }

    async fn fill(&self, template: &TemplateRecord, number: u64) -> Result<Started, Problem> {
        let suffix = random::lower_alnum(&*self.world.entropy, ENTRY_SUFFIX);
        let names = self.world.config.settings.family(&template.name).entry(&suffix);
        let entry = EntryRecord {
            target: template.target.clone(),
            db: names.db,
            role: names.role,
            template: template.name.clone(),
            generation: template.generation,
            state: EntryState::Making,
            number: Some(number),
            mark: record::PasswordMark::default(),
            made_at: self.world.clock.now(),
        };
        let new = operation(POOL_FILL, &entry)?;
        self.engine.start(new, move |connection: &Connection| entries::insert(connection, &entry)).await
    }

    /// Begins to remove an entry.
    pub async fn cool(&self, entry: &EntryRecord) -> Result<Started, Problem> {
        let input = EntryInput::new(entry);
        let prepare = move |connection: &Connection| begin_drop(connection, &input);
        self.engine.start(operation(POOL_DROP, entry)?, prepare).await
    }

    async fn drop_entry(&self, entry: &EntryRecord) -> Result<(), Problem> {
        match self.cool(entry).await {
            // Somebody takes it at this moment.
            Err(problem) if matches!(problem.code, "preview_busy" | "operation_conflict") => Ok(()),
            began => began.map(drop),
        }
    }

    /// Gives entries whose number has come and gone the password of a number that is to come.
    async fn aim(&self, template: &TemplateRecord, ready: &[EntryRecord]) -> Result<(), Problem> {
        let mut wanted: BTreeSet<u64> = foreseen(template.highest, ready.len()).collect();
        let mut idle = Vec::new();
        for entry in ready {
            if !entry.number.is_some_and(|number| wanted.remove(&number)) {
                idle.push(entry);
            }
        }
        let Some(server) = self.world.server_of(&template.target).await? else { return Ok(()) };
        for (entry, number) in idle.into_iter().zip(wanted) {
            let Ok(number) = PrNumber::new(number) else { continue };
            let place = self.world.place(std::sync::Arc::clone(&server), Some(&template.name), number)?;
            let (target, db) = (entry.target.clone(), entry.db.clone());
            let free = self.world.store.write(move |connection| entries::unaim(connection, &target, &db)).await?;
            if !free {
                continue;
            }
            let password = self.world.password(&server, &place.db, &place.role).await?;
            let (verifier, mark) = password.verifier();
            let set = self.world.set_verifier(&server, &entry.role, &verifier).await;
            if !set.map_err(crate::operations::step_problem)? {
                // It was handed out in between, under another name.
                continue;
            }
            let (target, db) = (entry.target.clone(), entry.db.clone());
            let aimed = move |connection: &Connection| entries::aim(connection, (&target, &db), number.get(), &mark);
            self.world.store.write(aimed).await?;
        }
        Ok(())
    }
}

fn operation(kind: &'static str, entry: &EntryRecord) -> Result<NewOperation, Problem> {
    let input = serde_json::to_value(EntryInput::new(entry)).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(NewOperation { kind, subject: format!("pool/{}/{}", entry.target, entry.db), input })
}

/// The entry that an unfinished operation is about.
fn names(input: &Value) -> Option<&str> {
    input["entry"].as_str().or_else(|| input["entry"]["db"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_follows_demand_within_its_limits() {
        assert_eq!(plan_size(0, 0, 0, 8), 0, "nothing was asked for");
        assert_eq!(plan_size(0, 3, 0, 8), 1, "not lately");
        assert_eq!(plan_size(5, 9, 0, 8), 5);
        assert_eq!(plan_size(50, 90, 0, 8), 8);
        assert_eq!(plan_size(0, 0, 3, 8), 3);
        assert_eq!(plan_size(9, 9, 0, 0), 0, "none at all");
    }

    #[test]
    fn the_next_numbers_follow_the_highest() {
        assert_eq!(foreseen(41, 3).collect::<Vec<_>>(), [42, 43, 44]);
    }
}
