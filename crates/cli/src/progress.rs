//! An operation's steps, shown live on a terminal.

use crate::client::{Client, segment};
use crate::printer::Printer;
use anyhow::Context;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use pgdb_api::operations::{Operation, Step};
use std::collections::HashMap;
use std::time::Duration;

/// Follows an operation to its end. An end other than success is an error.
pub(crate) async fn follow(client: &Client, printer: &Printer, id: &str) -> anyhow::Result<Operation> {
    let mut lines = Lines::new(printer.shows_progress());
    let interrupted = async {
        // Without a signal handler a Ctrl-C ends the program, which is right too.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let operation = tokio::select! {
        operation = watch(client, id, &mut lines) => operation?,
        () = interrupted => anyhow::bail!("left waiting; the operation goes on, watch it with `pgdb operations watch {id}`"),
    };
    lines.finish();
    match operation.state.as_str() {
        "succeeded" => Ok(operation),
        state => {
            let why = operation.error.as_ref().map_or("no reason is known", |error| error.message.as_str());
            anyhow::bail!("{} of {} ended {state}: {why}", operation.kind, operation.subject)
        }
    }
}

async fn watch(client: &Client, id: &str, lines: &mut Lines) -> anyhow::Result<Operation> {
    let path = format!("/v1/operations/{}/events", segment(id));
    let response = client.stream(&path, &()).await?;
    let mut chunks = response.bytes_stream();
    let mut pending = Vec::new();
    let mut last: Option<Operation> = None;
    while let Some(chunk) = chunks.next().await {
        pending.extend_from_slice(&chunk.context("the stream of events broke off; the operation goes on")?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data:") {
                let operation: Operation = serde_json::from_slice(data).context("an event makes no sense")?;
                lines.show(&operation);
                last = Some(operation);
            }
        }
    }
    let last = last.context("the daemon ended the stream of events without an event")?;
    if matches!(last.state.as_str(), "succeeded" | "failed" | "undone") {
        return Ok(last);
    }
    anyhow::bail!(
        "the daemon ended before the operation did; it goes on when the daemon is back: `pgdb operations watch {id}`"
    )
}

/// One line a step.
struct Lines {
    shown: bool,
    bars: HashMap<String, ProgressBar>,
    screen: indicatif::MultiProgress,
}

impl Lines {
    fn new(shown: bool) -> Self {
        Self { shown, bars: HashMap::new(), screen: indicatif::MultiProgress::new() }
    }

    fn show(&mut self, operation: &Operation) {
        if !self.shown {
            return;
        }
        for step in &operation.steps {
            if step.state == "pending" {
                continue;
            }
            let bar = self.bars.entry(step.name.clone()).or_insert_with(|| {
                let bar = self.screen.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(80));
                bar
            });
            if bar.is_finished() && step.state == "succeeded" {
                continue;
            }
            draw(bar, step);
        }
    }

    fn finish(&self) {
        for bar in self.bars.values().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

fn draw(bar: &ProgressBar, step: &Step) {
    let name = step.name.replace('_', " ");
    let retry = if step.attempt > 1 { format!(" (attempt {})", step.attempt) } else { String::new() };
    let ended = |mark: &str| {
        if let Ok(style) = ProgressStyle::with_template(&format!("  {mark} {{msg}}")) {
            bar.set_style(style);
        }
    };
    match step.state.as_str() {
        "succeeded" => {
            ended("✓");
            bar.finish_with_message(format!("{name}{retry}  {} ms", milliseconds(step)));
        }
        "failed" => {
            ended("✗");
            let why = step.error.as_ref().map_or("", |error| error.message.as_str());
            bar.finish_with_message(format!("{name}{retry}: {why}"));
        }
        "undone" => {
            ended("↩");
            bar.finish_with_message(format!("{name} taken back"));
        }
        "undoing" => bar.set_message(format!("taking back {name}")),
        _ => bar.set_message(format!("{name}{retry}")),
    }
}

/// Milliseconds from a step's begin to its end.
pub(crate) fn milliseconds(step: &Step) -> i64 {
    match (step.started_at, step.finished_at) {
        (Some(from), Some(to)) => i64::try_from(to.duration_since(from).as_millis()).unwrap_or(0),
        _ => 0,
    }
}
