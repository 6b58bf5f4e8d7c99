//! Sending a file's statements, and what is known when that fails.

use crate::error::{Cause, PgError};
use crate::migrate::failure::may_pass;
use crate::migrate::ledger;
use crate::migrate::report::Failure;
use crate::migrate::session::Session;
use crate::migrate::split::Statement;
use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use pgdb_core::migration::ledger::SeenLock;
use std::pin::Pin;
use tokio_postgres::{Error, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

/// How much data of a COPY goes into one message.
const COPY_CHUNK: usize = 64 * 1024;

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Box<Failure>,
    /// Whether the same may go well a moment later.
    pub(crate) may_pass: bool,
    /// The session was lost, with everything that was not committed.
    pub(crate) lost: Option<PgError>,
    /// The ledger has it already.
    pub(crate) noted: bool,
}

impl Failed {
    /// `error` is what the server or the network said, if it was one of them.
    pub(crate) fn new(failure: Failure, error: Option<PgError>) -> Self {
        let may_pass = error.as_ref().is_some_and(may_pass);
        Self { failure: Box::new(failure), may_pass, lost: error.filter(is_loss), noted: false }
    }
}

/// Whether the error means that there is no session any more.
pub(crate) fn is_loss(error: &PgError) -> bool {
    match error {
        PgError::QueryFailed { cause, .. } => match cause.as_ref() {
            Cause::Server(server) => {
                matches!(server.sqlstate.as_str(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04")
            }
            Cause::Driver(driver) => driver.is_closed() || driver.as_db_error().is_none(),
            _ => true,
        },
        _ => false,
    }
}

/// What a file's row of the ledger says that is known only once it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted {
    /// The row's number, if it was asked for.
    pub(crate) id: Option<i64>,
    pub(crate) locks: Vec<SeenLock>,
    /// If the server has told it.
    pub(crate) took_ms: Option<u64>,
}

impl From<Vec<SeenLock>> for Noted {
    fn from(locks: Vec<SeenLock>) -> Self {
        Self { locks, ..Self::default() }
    }
}

impl From<&SimpleQueryRow> for Noted {
    /// From what the statements give that write a file's row.
    fn from(row: &SimpleQueryRow) -> Self {
        Self {
            id: column(row, 0).and_then(|id| id.parse().ok()),
            locks: column(row, 1).map(ledger::locks).unwrap_or_default(),
            took_ms: column(row, 2).and_then(|ms| ms.parse().ok()),
        }
    }
}

/// A column of a row, if there is one, and it is text and not NULL.
pub(crate) fn column(row: &SimpleQueryRow, index: usize) -> Option<&str> {
    row.try_get(index).ok().flatten()
}

/// What the server answers to a message that was sent.
pub(crate) type Answers = Pin<Box<SimpleQueryStream>>;

/// Sends statements as one message, and does not wait.
pub(crate) async fn send(session: &Session, text: &str) -> Result<Answers, Error> {
    session.client.raw().simple_query_raw(text).await.map(Box::pin)
}

/// Waits for the end of a plain file in a message, which may go on: its row, whose first column has this name, and the
/// COMMIT; `None` if the message ends before that. A failure says how many statements were done before it.
pub(crate) async fn read_noted(answers: &mut Answers, name: &str) -> Result<Option<Noted>, (Error, usize)> {
    let (mut done, mut is_row, mut noted) = (0, false, None);
    loop {
        match answers.try_next().await {
            Ok(Some(SimpleQueryMessage::RowDescription(columns))) => {
                is_row = columns.first().is_some_and(|column| column.name() == name);
            }
            Ok(Some(SimpleQueryMessage::Row(row))) if is_row => noted = Some((Noted::from(&row), done)),
            Ok(Some(SimpleQueryMessage::CommandComplete(_))) => {
                done += 1;
                // The row's statement, and the COMMIT.
                if let Some((noted, _)) = noted.take_if(|(_, before)| done == *before + 2) {
                    return Ok(Some(noted));
                }
            }
            Ok(Some(_)) => {}
            // All of the message is done.
            Ok(None) => return Ok(None),
            Err(error) => return Err((error, done)),
        }
    }
}

/// Waits for the end of a message. Gives its last row, if any statement had one; a failure says how many statements were
/// done before it.
pub(crate) async fn count(answers: &mut Answers) -> Result<Option<SimpleQueryRow>, (Error, usize)> {
    let mut done = 0;
    let mut last = None;
    loop {
        match answers.try_next().await {
            Ok(Some(SimpleQueryMessage::CommandComplete(_))) => done += 1,
            Ok(Some(SimpleQueryMessage::Row(row))) => last = Some(row),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(last),
            Err(error) => return Err((error, done)),
        }
    }
}

/// Sends statements as one message and waits for its end, as [`count`] does.
pub(crate) async fn run_counting(session: &Session, text: &str) -> Result<Option<SimpleQueryRow>, (Error, usize)> {
    let mut answers = send(session, text).await.map_err(|error| (error, 0))?;
    count(&mut answers).await
}

/// Runs a COPY with the data that stands behind it.
pub(crate) async fn copy(session: &Session, sql: &str, statement: &Statement) -> Result<(), Error> {
    let text = sql[statement.span.clone()].trim_end_matches(';');
    let sink = session.client.raw().copy_in::<_, Bytes>(text).await?;
    futures::pin_mut!(sink);
    let data = statement.data.clone().map_or("", |data| &sql[data]);
    for chunk in data.as_bytes().chunks(COPY_CHUNK) {
        sink.send(Bytes::copy_from_slice(chunk)).await?;
    }
    sink.finish().await.map(drop)
}
