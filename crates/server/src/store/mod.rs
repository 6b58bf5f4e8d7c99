//! Our own state in SQLite: one thread writes, a few connections read.
//!
//! A write is durable when its future resolves (WAL with `synchronous=FULL`). Writes that wait at the same
//! time share one commit, each in a savepoint of its own, so that a refused one takes none of the others along.

mod open;
pub mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use open::OpenError;

use crate::problem::{Problem, ProblemKind};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How many connections read at the same time.
const READERS: usize = 4;

/// The daemon's state.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: writer::Writer,
    readers: Mutex<Vec<Connection>>,
    reading: tokio::sync::Semaphore,
}

impl Store {
    /// Opens or makes the state file, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = open::open_for_writing(path)?;
        let readers = (0..READERS).map(|_| open::open_for_reading(path)).collect::<Result<Vec<_>, _>>()?;
        let inner = Inner {
            path: path.to_owned(),
            writer: writer::Writer::spawn(connection)?,
            readers: Mutex::new(readers),
            reading: tokio::sync::Semaphore::new(READERS),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the state file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Counts up with every commit: what was read at an older revision may be stale.
    pub fn revision(&self) -> u64 {
        self.inner.writer.revision()
    }

    /// Runs `change` in a transaction; when it resolves to `Ok`, the change is durable. An `Err` rolls it back.
    pub async fn write<T, F>(&self, change: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    {
        self.inner.writer.submit(change).await
    }

    /// Runs `query` on a connection that only reads.
    pub async fn read<T, F>(&self, query: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    {
        let permit = self.inner.reading.acquire().await.map_err(|_| Problem::internal("the store is closed"))?;
        let inner = Arc::clone(&self.inner);
        let result = tokio::task::spawn_blocking(move || inner.query(query))
            .await
            .map_err(|error| Problem::internal(format!("a state query panicked: {error}")))?;
        drop(permit);
        result
    }

    /// The same without a thread of its own, for a query that is done in no time.
    pub fn read_now<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        let _permit =
            self.inner.reading.try_acquire().map_err(|_| Problem::internal("too many state queries at once"))?;
        self.inner.query(query)
    }
}

impl Inner {
    fn query<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        let connection = self.readers.lock().map_err(|_| poisoned())?.pop().ok_or_else(poisoned)?;
        let result = query(&connection);
        self.readers.lock().map_err(|_| poisoned())?.push(connection);
        result
    }
}

fn poisoned() -> Problem {
    Problem::internal("an earlier state query panicked")
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                return Self::busy(
                    "state_locked",
                    "another program has locked pgdb's state file; end it, then try again",
                );
            }
            Some(ErrorCode::DiskFull) => {
                return Self::new(
                    ProblemKind::Busy,
                    "disk_full",
                    "no space left for pgdb's state file; free some space on the file system of PGDB_DATA_DIR",
                );
            }
            // Trying again would not help, and an operation must not try for ever.
            Some(ErrorCode::ConstraintViolation) => {
                let message = format!("another record of pgdb's state is in the way: {error}");
                return Self::conflict("state_conflict", message);
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "the state file is damaged; see docs/operating.md on how to recover"
            }
            _ => "the state file could not be used",
        };
        Self::internal(format!("{advice}: {error}"))
    }
}
