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

/// An entry that is one too many stays for so long: what was made is not thrown away at once.
const SURPLUS_STAYS: SignedDuration = SignedDuration::from_mins(15);
/// How many of the newest numbers tell which ones come next.
const LAST_FEW: usize = 5;
/// Ensures that are counted at most; no pool is as large.
const COUNTED: u32 = 1000;

/// How many entries to keep, of how often previews were asked for in the last hour and the last day. Pure.
pub(super) fn plan_size(last_hour: u32, last_day: u32, least: u32, most: u32) -> u32 {
    let demand = if last_day == 0 { 0 } else { last_hour.max(1) };
    demand.clamp(least, most.max(least))
}

/// Which numbers come next, of those that have previews, the newest first; `highest` where there are none. Pure.
///
/// Numbers count up, so it is those behind the highest of the last few. One that is far from the others, such as that of a
/// try by hand, is left out: what follows it would never be asked for.
fn foreseen(newest: &[u64], highest: u64, count: usize) -> Vec<u64> {
    let mut last: Vec<u64> = newest.iter().copied().take(LAST_FEW).collect();
    last.sort_unstable();
    let middle = last.get(last.len().saturating_sub(1) / 2).copied().unwrap_or(highest);
    let near = |number: &u64| *number <= middle.saturating_mul(2).saturating_add(100);
    let base = last.into_iter().filter(near).max().unwrap_or(highest);
    let ahead = (1..).map(|ahead| base.saturating_add(ahead)).take(newest.len() + count);
    ahead.filter(|number| PrNumber::new(*number).is_ok() && !newest.contains(number)).take(count).collect()
}

/// What the fills of a template's pool are called when they rest.
pub(super) fn fills_of(target: &str, template: &str) -> String {
    format!("fill/{target}/{template}")
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
        let rested = self.world.rests.over(&fills_of(&target, &name), self.world.clock.monotonic_ms());
        if missing > 0 && rested {
            let taken: BTreeSet<u64> = ready.iter().filter_map(|entry| entry.number).collect();
            let mut numbers = self.foreseen(template, want + making).await?;
            numbers.retain(|number| !taken.contains(number));
            for number in numbers.into_iter().skip(making).take(missing) {
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
        let numbers = self.foreseen(template, all.len() + 1).await?;
        let number = numbers.into_iter().find(|number| !taken.contains(number));
        self.fill(template, number.unwrap_or(1)).await
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
            taken_by: None,
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
        if !self.world.rests.over(&subject(entry), self.world.clock.monotonic_ms()) {
            return Ok(());
        }
        match self.cool(entry).await {
            // Somebody takes it at this moment.
            Err(problem) if matches!(problem.code, "preview_busy" | "operation_conflict") => Ok(()),
            began => began.map(drop),
        }
    }

    /// Which numbers come next, without those that nothing may be made for.
    async fn foreseen(&self, template: &TemplateRecord, count: usize) -> Result<Vec<u64>, Problem> {
        let (target, name) = (template.target.clone(), template.name.clone());
        let newest = self.world.store.read(move |connection| record::numbers(connection, &target, &name)).await?;
        let (settings, mut numbers) = (&self.world.config.settings, foreseen(&newest, template.highest, count));
        let family = settings.family(&template.name);
        numbers.retain(|number| {
            PrNumber::new(*number).is_ok_and(|number| !settings.is_protected(&family.preview(number).db))
        });
        Ok(numbers)
    }

    /// Gives entries whose number has come and gone the password of a number that is to come.
    async fn aim(&self, template: &TemplateRecord, ready: &[EntryRecord]) -> Result<(), Problem> {
        let mut wanted: BTreeSet<u64> = self.foreseen(template, ready.len()).await?.into_iter().collect();
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
    Ok(NewOperation { kind, subject: subject(entry), input })
}

fn subject(entry: &EntryRecord) -> String {
    format!("pool/{}/{}", entry.target, entry.db)
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
    fn the_next_numbers_follow_the_highest_of_the_last_few() {
        assert_eq!(foreseen(&[], 41, 3), [42, 43, 44]);
        assert_eq!(foreseen(&[41, 40, 12], 0, 3), [42, 43, 44]);
        assert_eq!(foreseen(&[12, 41, 40, 13], 0, 2), [42, 43], "an older one was opened again");
        assert_eq!(foreseen(&[999_999, 120, 119], 999_999, 2), [121, 122], "a try by hand");
        assert_eq!(foreseen(&[120, 999_999], 999_999, 2), [121, 122]);
        assert_eq!(foreseen(&[5, 7, 6, 1, 1, 8], 8, 3), [9, 10, 11], "what is there already is not asked for");
        assert!(foreseen(&[9_999_999_999], 0, 3).is_empty(), "no number follows the last");
    }
}
