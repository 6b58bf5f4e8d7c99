//! Invalid indexes of a statement that was at work before: told, and removed before the file goes on. Never anybody else's.

use super::{Steps, row};
use crate::error::PgError;
use crate::migrate::attempt::Failed;
use crate::migrate::index::{self, Index, Subject};
use crate::migrate::report::{Event, Listener};
use pgdb_core::migration::ledger::{Before, Progress};

impl Steps<'_> {
    /// Drops what the statement has left that was at work here before, whatever the file says here now. `true`: its index
    /// is there, the file still asks for it, and only the note of it is missing.
    pub(super) async fn cleared(&mut self, index: usize, listener: Listener<'_>) -> Result<bool, Failed> {
        let Some(before) = self.before.take() else { return Ok(false) };
        let Some(subject) = read(&before) else { return Ok(false) };
        let cleared = self.clear(index, &before, &subject, listener).await;
        if cleared.is_err() {
            self.before = Some(before);
        }
        Ok(cleared? && self.subject(index).as_ref() == Some(&subject))
    }

    async fn clear(
        &self,
        index: usize,
        before: &Before,
        subject: &Subject,
        listener: Listener<'_>,
    ) -> Result<bool, Failed> {
        let found = self.ours(self.left(before, subject).await)?;
        if found.iter().any(|index| index.named && index.valid) {
            return Ok(true);
        }
        let left: Vec<Index> = found.into_iter().filter(|index| index.fits && !index.valid).collect();
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
        let key = Some(self.file.key.as_str());
        if is_unclear(subject, &left) {
            let message = format!(
                "an earlier attempt may have left one of the invalid indexes {}; they stay, for it cannot be told which",
                names(&left)
            );
            listener(Event::Warning { key, message: &message });
            return Ok(false);
        }
        let still = self.ours(self.left(before, subject).await)?;
        for Index { oid, name, .. } in &left {
            if still.iter().any(|index| index.oid == *oid && !index.valid) {
                let message = format!("an earlier attempt left the invalid index {name}; it is dropped and made anew");
                listener(Event::Warning { key, message: &message });
                self.ours(index::drop_index(&self.session.client, name).await)?;
            }
        }
        Ok(false)
    }

    /// Writes down how things are before the statement at `index`, which makes indexes.
    pub(super) async fn look_before(&mut self, index: usize) -> Result<(), Failed> {
        let Some(subject) = self.subject(index) else { return Ok(()) };
        let relation = self.ours(index::relation(&self.session.client, &subject).await)?;
        let found = self.ours(self.look(&subject, relation).await)?;
        // Told here, for with IF NOT EXISTS PostgreSQL would be content with it.
        if let Some(other) = found.iter().find(|index| index.named && !index.valid) {
            return Err(self.of_somebody(index, other));
        }
        let indexes = found.iter().map(|index| index.oid).collect();
        let subject = serde_json::to_string(&subject).unwrap_or_default();
        let before = Before { indexes, relation, subject };
        let progress = Progress { before: Some(before.clone()), ..self.progress(self.kept) };
        self.ours(row::before(self.session, self.row, &progress).await)?;
        self.before = Some(before);
        Ok(())
    }

    /// Adds to a failure what the statement has left. A session that was lost cannot be asked; the next run looks.
    pub(super) async fn with_leftovers(&self, mut failed: Failed) -> Failed {
        let Some((before, subject)) = self.before.as_ref().and_then(|before| Some((before, read(before)?))) else {
            return failed;
        };
        let mut left = self.left(before, &subject).await.unwrap_or_default();
        left.retain(|index| index.fits && !index.valid);
        if left.is_empty() {
            return failed;
        }
        let left = match is_unclear(&subject, &left) {
            true => format!("it may have left one of the invalid indexes {}", names(&left)),
            false => format!("it left the invalid index {}; the next run drops it and makes it anew", names(&left)),
        };
        let aftermath = &mut failed.failure.aftermath;
        *aftermath = if aftermath.is_empty() { left } else { format!("{left}; {aftermath}") };
        failed
    }

    fn subject(&self, index: usize) -> Option<Subject> {
        Subject::of(&self.sql[self.statements[index].span.clone()])
    }

    /// What was not there before.
    async fn left(&self, before: &Before, subject: &Subject) -> Result<Vec<Index>, PgError> {
        let mut found = self.look(subject, before.relation).await?;
        found.retain(|index| !before.indexes.contains(&index.oid));
        Ok(found)
    }

    async fn look(&self, subject: &Subject, relation: u32) -> Result<Vec<Index>, PgError> {
        let [name, schema, all] = index::names(subject);
        let params = [&relation.to_string(), name, schema, all];
        let rows = row::ask(self.session, "look for invalid indexes", index::LOOK, &params).await?;
        Ok(rows.iter().map(|row| index::read(subject, relation, row)).collect())
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

fn read(before: &Before) -> Option<Subject> {
    serde_json::from_str(&before.subject).ok()
}

/// A statement leaves one new index at most, and not every one says what it is called.
fn is_unclear(subject: &Subject, left: &[Index]) -> bool {
    left.len() > 1 && matches!(subject, Subject::Create { .. })
}

fn names(indexes: &[Index]) -> String {
    indexes.iter().map(|index| index.name.as_str()).collect::<Vec<_>>().join(", ")
}
