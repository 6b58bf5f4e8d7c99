//! Opening the state file, and saying clearly why it cannot be opened.

use super::schema;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a statement waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the state file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not a SQLite file, or parts of it are damaged.
    #[error("the state file {} is damaged; move it away and run `pgdb registry import` with a backup, or restore the file itself (docs/operating.md)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer pgdb has written it.
    #[error("the state file {} was written by a newer pgdb (schema {found}, this one knows up to {known}); upgrade pgdb", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema's number.
        found: i64,
        /// The newest number that we know.
        known: i64,
    },
    /// Another program holds a lock on it.
    #[error("the state file {} is locked by another program; end that program, then start pgdb again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("could not open the state file {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The writing thread could not be started.
    #[error("could not start the thread that writes the state")]
    Thread(#[source] std::io::Error),
}

pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    let explain = |error| explain(path, error);
    let mut connection = Connection::open(path).map_err(explain)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")
        .map_err(explain)?;
    restrict(path)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(explain)?;
    if found > schema::known_version() {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::known_version() });
    }
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(explain)?;
    if check != "ok" {
        return Err(OpenError::Damaged { path: path.to_owned() });
    }
    schema::migrate(&mut connection, found).map_err(explain)?;
    Ok(connection)
}

pub(super) fn open_for_reading(path: &Path) -> Result<Connection, OpenError> {
    let explain = |error| explain(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
    Ok(connection)
}

/// The file holds sealed secrets and token hashes: nobody else reads it.
fn restrict(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|error| OpenError::Sqlite {
        path: path.to_owned(),
        source: rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
    })
}

fn explain(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Sqlite { path, source: error },
    }
}
