//! Invalid indexes of a statement that was at work before: told, and removed before it is run again. Never anybody else's.

use super::{Steps, row};
use crate::error::PgError;
use crate::migrate::attempt::Failed;
use crate::migrate::index::{self, Index, Subject};
use crate::migrate::report::{Event, Listener};
use pgdb_core::migration::ledger::Progress;

impl Steps<'_> {
    /// Makes the way free for the statement at `index`, which makes indexes: what it left when it was run before is
    /// dropped. `true`: its index is there, and only the note of it is missing.
    pub(super) async fn cleared(&mut self, index: usize, listener: Listener<'_>) -> Result<bool, Failed> {
        let Some(subject) = Subject::of(&self.sql[self.statements[index].span.clone()]) else { return Ok(false) };
        let found = self.ours(self.look(&subject).await)?;
        let Some(before) = self.known_before(index) else {
            // Told here, for with IF NOT EXISTS PostgreSQL would be content with it.
            if let Some(other) = found.iter().find(|index| index.named && !index.valid) {
                return Err(self.of_somebody(index, other));
            }
            self.write_before(index, &found).await?;
            return Ok(false);
        };
        let own = |found: &Index| !before.contains(&found.oid);
        if found.iter().any(|index| index.named && index.valid && own(index)) {
            return Ok(true);
        }
        if let Some(other) = found.iter().find(|index| index.named && !index.valid && !own(index)) {
            return Err(self.of_somebody(index, other));
        }
        let left: Vec<Index> = found.into_iter().filter(|index| index.fits && !index.valid && own(index)).collect();
        if left.is_empty() {
            return Ok(false);
        }
        // One that is just being built is invalid too, and its builder has locked the table. What was invalid before we
        // asked for builders and still is afterwards, nobody is building.
        let tables = index::tables(&left);
        let at_work = self.ours(row::ask(self.session, "look who builds indexes", index::AT_WORK, &[&tables]).await)?;
        if let Some(pid) = at_work.first().map(|row| row.get::<_, String>(0)) {
            return Err(self.busy(index, &left[0], &pid));
        }
        let still = self.ours(self.look(&subject).await)?;
        for Index { oid, name, .. } in &left {
            if still.iter().any(|index| index.oid == *oid && !index.valid) {
                let message = format!("an earlier attempt left the invalid index {name}; it is dropped and made anew");
                listener(Event::Warning { key: Some(self.file.key.as_str()), message: &message });
                self.ours(index::drop_index(&self.session.client, name).await)?;
            }
        }
        Ok(false)
    }

    /// Adds to a failure what the statement has left. A session that was lost cannot be asked; the next run looks.
    pub(super) async fn with_leftovers(&self, index: usize, mut failed: Failed) -> Failed {
        let Some(subject) = Subject::of(&self.sql[self.statements[index].span.clone()]) else { return failed };
        let before = self.known_before(index).unwrap_or_default();
        for left in self.look(&subject).await.unwrap_or_default() {
            if left.fits && !left.valid && !before.contains(&left.oid) {
                let left = format!("it left the invalid index {}; the next run drops it and makes it anew", left.name);
                let aftermath = &mut failed.failure.aftermath;
                *aftermath = if aftermath.is_empty() { left } else { format!("{left}; {aftermath}") };
            }
        }
        failed
    }

    async fn look(&self, subject: &Subject) -> Result<Vec<Index>, PgError> {
        let relation = index::relation(&self.session.client, subject).await?;
        let [name, schema, all] = index::names(subject);
        let params = [relation.as_str(), name, schema, all];
        let rows = row::ask(self.session, "look for invalid indexes", index::LOOK, &params).await?;
        Ok(rows.iter().map(|row| index::read(subject, &relation, row)).collect())
    }

    fn known_before(&self, index: usize) -> Option<Vec<u32>> {
        self.before.as_ref().filter(|(at, _)| *at == index).map(|(_, before)| before.clone())
    }

    async fn write_before(&mut self, index: usize, found: &[Index]) -> Result<(), Failed> {
        let before: Vec<u32> = found.iter().map(|index| index.oid).collect();
        let progress = Progress { before: Some(before.clone()), ..self.progress(self.kept) };
        self.ours(row::before(self.session, self.row, &progress).await)?;
        self.before = Some((index, before));
        Ok(())
    }

    fn of_somebody(&self, index: usize, other: &Index) -> Failed {
        let message = format!("there is an invalid index {} already, which this file did not leave", other.name);
        let mut failure = self.teller().at(self.statements[index].span.start, message);
        failure.hint = Some(format!(
            "if nobody is building it just now, remove it with DROP INDEX CONCURRENTLY {}, and run again",
            other.name
        ));
        self.failed(failure, None)
    }

    fn busy(&self, index: usize, left: &Index, pid: &str) -> Failed {
        let message = format!(
            "process {pid} is at work on the table of the invalid index {}, so that it cannot be said whose it is",
            left.name
        );
        let mut failed = self.failed(self.teller().at(self.statements[index].span.start, message), None);
        failed.may_pass = true;
        failed
    }
}
