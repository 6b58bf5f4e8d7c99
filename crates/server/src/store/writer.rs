//! The one thread that writes.

use super::OpenError;
use crate::problem::Problem;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// How many waiting writes share one commit at most.
const BATCH: usize = 64;

/// Makes one change inside the open transaction, or is told why there is none. Returns how to tell the caller
/// once the commit's fate is known.
type Job = Box<dyn FnOnce(Result<&Connection, Problem>) -> Reply + Send>;
/// Called with the error when the commit failed.
type Reply = Box<dyn FnOnce(Option<Problem>) + Send>;

pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    revision: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn spawn(connection: Connection) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::channel();
        let revision = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&revision);
        std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || run(&connection, &queue, &counter))
            .map_err(OpenError::Thread)?;
        Ok(Self { jobs, revision })
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) async fn submit<T, F>(&self, change: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.and_then(|connection| in_savepoint(connection, change));
            Box::new(move |commit_error| {
                // The caller may have gone away; the change stands all the same.
                let _ = sender.send(match (result, commit_error) {
                    (Ok(_), Some(problem)) => Err(problem),
                    (result, _) => result,
                });
            })
        });
        self.jobs.send(job).map_err(|_| Problem::internal("the state writer has ended"))?;
        receiver.await.map_err(|_| Problem::internal("the state writer has ended"))?
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, Problem>,
) -> Result<T, Problem> {
    connection.execute_batch("SAVEPOINT change")?;
    // A panic in one change must not end the thread that all others need.
    let result = catch_unwind(AssertUnwindSafe(|| change(connection)))
        .unwrap_or_else(|_| Err(Problem::internal("a change of the state panicked")));
    match &result {
        Ok(_) => connection.execute_batch("RELEASE change")?,
        // A full disk has rolled everything back already; what the change met is the reason to tell.
        Err(_) => connection.execute_batch("ROLLBACK TO change; RELEASE change").unwrap_or_else(|error| {
            tracing::warn!(%error, "a refused change could not be taken back by itself");
        }),
    }
    result
}

fn run(connection: &Connection, queue: &mpsc::Receiver<Job>, revision: &AtomicU64) {
    while let Ok(first) = queue.recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            first(Err(error.into()))(None);
            continue;
        }
        let mut replies = vec![first(Ok(connection))];
        while replies.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            replies.push(job(Ok(connection)));
        }
        let failure = connection.execute_batch("COMMIT").map_err(Problem::from).err();
        if failure.is_some() && !connection.is_autocommit() {
            // A failed COMMIT can leave the transaction open; the next one must start clean.
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Before anybody learns of the commit, so that nobody who does can still be served the state before it.
        revision.fetch_add(1, Ordering::AcqRel);
        for reply in replies {
            reply(failure.clone());
        }
    }
}
