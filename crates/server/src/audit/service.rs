//! Writing the audit log beside the requests, and forgetting what is old.

use crate::problem::Problem;
use crate::store::Store;
use jiff::{SignedDuration, Timestamp};
use pgdb_api::audit::{AuditEntry, AuditPage, AuditQuery};
use pgdb_core::time::Clock;
use rusqlite::{Connection, params};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Rows that wait to be written; when there are more, requests wait for them rather than losing one.
const QUEUE: usize = 4096;
/// Rows that share a transaction at most.
const BATCH: usize = 256;
/// Old rows are dropped each time so many were written, and at the start.
const CLEAN_EVERY: usize = 1000;
const KEEP: SignedDuration = SignedDuration::from_hours(180 * 24);
const KEEP_ROWS: i64 = 1_000_000;
/// Attempts at writing a batch while the disk is full or the file locked.
const ATTEMPTS: u32 = 5;
/// Rows of a page when the query does not say.
const PAGE: u32 = 50;
const PAGE_LIMIT: u32 = 500;

/// One row.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// A token's id, or which bootstrap token.
    pub actor: String,
    /// The client's address.
    pub remote: String,
    /// Method and route, such as `POST /v1/deploy`.
    pub action: String,
    /// What it was about, such as `instance/mydb`.
    pub subject: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The error's code.
    pub error: Option<&'static str>,
    /// The request's id.
    pub request_id: String,
}

/// What the writer is given, in order.
enum Entry {
    Row(Record),
    /// Answered once everything before it was written.
    Mark(oneshot::Sender<()>),
}

/// The audit log.
pub struct Audit {
    store: Store,
    queue: Mutex<Option<mpsc::Sender<Entry>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Starts the task that writes. Needs a tokio runtime.
    pub fn start(store: Store, clock: Arc<dyn Clock>) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_all(store.clone(), clock, entries));
        Self { store, queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) }
    }

    /// Queues a row.
    pub async fn record(&self, record: Record) {
        if let Err(Entry::Row(record)) = self.send(Entry::Row(record)).await {
            tracing::error!(?record, "this request came too late for the audit log");
        }
    }

    /// Gives back what came after [`Self::close`].
    async fn send(&self, entry: Entry) -> Result<(), Entry> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match queue {
            Some(queue) => queue.send(entry).await.map_err(|error| error.0),
            None => Err(entry),
        }
    }

    /// Writes what is queued and ends.
    pub async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the audit log's task ended early");
        }
    }

    /// A page, newest first. Whoever has the answer to a request finds its row.
    pub async fn list(&self, query: AuditQuery) -> Result<AuditPage, Problem> {
        let limit = query.limit.unwrap_or(PAGE);
        if !(1..=PAGE_LIMIT).contains(&limit) {
            return Err(Problem::invalid("invalid_query", format!("limit: from 1 to {PAGE_LIMIT}")));
        }
        let before = query.before.unwrap_or(i64::MAX);
        if before < 1 {
            return Err(Problem::invalid("invalid_query", "before: at least 1"));
        }
        let (mark, written) = oneshot::channel();
        if self.send(Entry::Mark(mark)).await.is_ok() {
            // An error means that the writer has ended, and with it that everything was written.
            written.await.ok();
        }
        self.store
            .read(move |connection| {
                let mut items = page(connection, before, query.subject.as_deref(), i64::from(limit) + 1)?;
                let more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
                if more {
                    items.pop();
                }
                let next = items.last().filter(|_| more).map(|last| last.id);
                Ok(AuditPage { items, next })
            })
            .await
    }
}

fn page(connection: &Connection, before: i64, subject: Option<&str>, limit: i64) -> Result<Vec<AuditEntry>, Problem> {
    let condition = if subject.is_some() { "subject = ?2" } else { "?2 IS NULL" };
    let sql = format!(
        "SELECT id, at, actor, remote, action, subject, status, error, request_id FROM audit
         WHERE id < ?1 AND {condition} ORDER BY id DESC LIMIT ?3"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params![before, subject, limit])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let at = Timestamp::from_microsecond(row.get(1)?)
            .map_err(|error| Problem::internal(format!("a stored time is wrong: {error}")))?;
        items.push(AuditEntry {
            id: row.get(0)?,
            at,
            actor: row.get(2)?,
            remote: row.get(3)?,
            action: row.get(4)?,
            subject: row.get(5)?,
            status: row.get(6)?,
            error: row.get(7)?,
            request_id: row.get(8)?,
        });
    }
    Ok(items)
}

async fn write_all(store: Store, clock: Arc<dyn Clock>, mut entries: mpsc::Receiver<Entry>) {
    let mut written = CLEAN_EVERY;
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let (mut rows, mut marks) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Row(row) => rows.push(row),
                Entry::Mark(mark) => marks.push(mark),
            }
        }
        if !rows.is_empty() {
            written += rows.len();
            let clean = (written >= CLEAN_EVERY).then(|| clock.now());
            if clean.is_some() {
                written = 0;
            }
            write(&store, Arc::new(rows), clean).await;
        }
        for mark in marks {
            // Whoever asked may have gone.
            mark.send(()).ok();
        }
    }
}

async fn write(store: &Store, batch: Arc<Vec<Record>>, clean: Option<Timestamp>) {
    for attempt in 1..=ATTEMPTS {
        let rows = Arc::clone(&batch);
        let done = store.write(move |connection| insert(connection, &rows, clean)).await;
        match done {
            Ok(()) => return,
            Err(problem) if attempt == ATTEMPTS => {
                // The log is the last place where they are not lost.
                tracing::error!(%problem, records = ?batch, "audit rows could not be written");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
        }
    }
}

fn insert(connection: &Connection, rows: &[Record], clean: Option<Timestamp>) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO audit (at, actor, remote, action, subject, status, error, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for row in rows {
        let Record { actor, remote, action, subject, status, error, request_id, .. } = row;
        let at = row.at.as_microsecond();
        statement.execute(params![at, actor, remote, action, subject, status, error, request_id])?;
    }
    if let Some(now) = clean {
        let oldest = now.checked_sub(KEEP).map_or(i64::MIN, Timestamp::as_microsecond);
        // Ids grow with time, so the oldest rows are found without an index on the time. A clock that was set back
        // only makes a row stay longer.
        connection.execute(
            "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1
             OR id < coalesce((SELECT id FROM audit WHERE at >= ?2 ORDER BY id LIMIT 1), 0)",
            params![KEEP_ROWS, oldest],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_rows_are_dropped_and_new_ones_stay() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let store = Store::open(&folder.path().join("state.db"))?;
        let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
        let row = |at: Timestamp| Record {
            at,
            actor: "a".into(),
            remote: "r".into(),
            action: "POST /v1/deploy".into(),
            subject: "instance/x".into(),
            status: 200,
            error: None,
            request_id: "1".into(),
        };
        let rows = vec![row(now.checked_sub(SignedDuration::from_hours(181 * 24))?), row(now)];
        store.write(move |connection| insert(connection, &rows, Some(now))).await?;
        let left = store.read(|connection| page(connection, i64::MAX, None, 10)).await?;
        assert_eq!(left.iter().map(|entry| entry.at).collect::<Vec<_>>(), [now]);
        Ok(())
    }
}
