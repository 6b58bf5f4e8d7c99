//! What a container has said, as the engine keeps it.

use crate::ByteStream;
use crate::docker::engine::Engine;
use crate::error::RuntimeError;
use crate::reasons::{SEARCHED, around_the_reason};
use crate::spec::LogOptions;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::{Stream, StreamExt, TryStreamExt};
use std::io;
use tokio_util::io::StreamReader;

/// The log as a stream. Without a container there is none.
pub(crate) async fn stream(
    engine: &Engine,
    container: Option<&str>,
    options: LogOptions,
) -> Result<ByteStream, RuntimeError> {
    let Some(container) = container else { return Ok(Box::new(tokio::io::empty())) };
    let api = engine.api().await?;
    let lines = options.lines.to_string();
    let asked = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines).follow(options.follow).build();
    let mut log = Box::pin(api.logs(container, Some(asked)).map_ok(LogOutput::into_bytes).map_err(io::Error::other));
    if options.follow {
        return Ok(Box::new(StreamReader::new(log)));
    }
    // The first word now, so that a refusal is an error and not an answer that breaks off.
    let first = log.next().await.transpose();
    let first = first
        .map_err(|error| RuntimeError::Containers { action: "read the log".to_owned(), message: error.to_string() })?;
    Ok(Box::new(StreamReader::new(futures::stream::iter(first.map(Ok)).chain(log))))
}

/// The lines that say why the server failed.
pub(crate) async fn last_lines(engine: &Engine, container: &str) -> Result<Vec<String>, RuntimeError> {
    let api = engine.api().await?;
    let asked = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&SEARCHED.to_string()).build();
    let text = collect(api.logs(container, Some(asked))).await.map_err(engine.failed("read the log"))?;
    Ok(around_the_reason(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()))
}

async fn collect<E>(log: impl Stream<Item = Result<LogOutput, E>>) -> Result<Vec<u8>, E> {
    log.try_fold(Vec::new(), async |mut text, part| {
        text.extend_from_slice(part.as_ref());
        Ok(text)
    })
    .await
}
