//! `pgdb logs NAME`.

use super::Context;
use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use pgdb_api::instances::LogsQuery;
use std::io::Write;

/// The log of a database's server.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Its name.
    name: String,
    /// Go on as more is written.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines.
    #[arg(long, short = 'n', default_value_t = 100)]
    lines: usize,
}

impl Logs {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let query = LogsQuery { lines: self.lines, follow: self.follow };
        let response = cx.client.stream(&cx.path(&self.name, "/logs")?, &query).await?;
        let mut chunks = response.bytes_stream();
        let mut stdout = std::io::stdout();
        while let Some(chunk) = chunks.next().await {
            stdout.write_all(&chunk.context("the log broke off")?)?;
            stdout.flush()?;
        }
        Ok(())
    }
}
