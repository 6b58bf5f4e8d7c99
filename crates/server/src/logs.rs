//! Structured logs on standard error.

use crate::config::LogFormat;
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries that write requests with all that is in them below this level: files and passwords for containers, and
/// people's statements.
const QUIET: [&str; 2] = ["bollard=info", "tokio_postgres=info"];

/// Starts writing log lines; once per process. `level` is a level, or a filter as `tracing` has them.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let mut filter =
        EnvFilter::try_new(level).with_context(|| format!("log_level: '{level}' is no level or filter"))?;
    for directive in QUIET {
        filter = filter.add_directive(directive.parse().context("a directive of our own")?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    // Should nobody read them any more, the daemon goes on: telling of that on standard error would be a panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Json => {
            registry.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
        }
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
    }
    .context("start the log")
}
