//! Sending a file's statements, and what is known when that fails.

use crate::error::{Cause, PgError};
use crate::migrate::failure::may_pass;
use crate::migrate::report::Failure;
use crate::migrate::session::Session;
use crate::migrate::split::Statement;
use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use std::pin::Pin;
use tokio_postgres::{Error, SimpleQueryMessage, SimpleQueryStream};

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
                matches!(server.sqlstate.as_str(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
            }
            Cause::Driver(driver) => driver.is_closed() || driver.as_db_error().is_none(),
            _ => true,
        },
        _ => false,
    }
}

/// What the server answers to a message that was sent.
pub(crate) type Answers = Result<Pin<Box<SimpleQueryStream>>, Error>;

/// Sends statements as one message, and does not wait.
pub(crate) async fn send(session: &Session, text: &str) -> Answers {
    session.client.raw().simple_query_raw(text).await.map(Box::pin)
}

/// Waits for the end of a message. Gives the first column of the last row, if any statement had one; a failure says how
/// many statements were done before it.
pub(crate) async fn count(answers: Answers) -> Result<Option<String>, (Error, usize)> {
    let mut done = 0;
    let mut last = None;
    let mut answers = answers.map_err(|error| (error, 0))?;
    loop {
        match answers.try_next().await {
            Ok(Some(SimpleQueryMessage::CommandComplete(_))) => done += 1,
            Ok(Some(SimpleQueryMessage::Row(row))) => last = Some(row),
            Ok(Some(_)) => {}
            Ok(None) => {
                return Ok(last.filter(|row| !row.is_empty()).and_then(|row| row.get(0).map(str::to_owned)));
            }
            Err(error) => return Err((error, done)),
        }
    }
}

/// Sends statements as one message and waits for its end, as [`count`] does.
pub(crate) async fn run_counting(session: &Session, text: &str) -> Result<Option<String>, (Error, usize)> {
    count(send(session, text).await).await
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
