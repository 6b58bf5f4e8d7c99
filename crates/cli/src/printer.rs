//! The one place that decides what goes where: data to standard output, everything else to standard error.

use crate::args::Global;
use crate::error::{Refused, hint};
use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// Prints as the flags say.
#[derive(Debug)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    quiet: bool,
    colour: bool,
    /// Why data could not be written.
    unwritten: OnceLock<io::Error>,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let colour = !global.no_color && std::env::var_os("NO_COLOR").is_none() && io::stderr().is_terminal();
        Self { json: global.json, quiet: global.quiet, colour, unwritten: OnceLock::new() }
    }

    /// Whether steps may be shown as they happen.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }

    /// Whether a person can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Data, as it is.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        // The command goes on, for what it does may be more than to print.
        if let Err(error) = writeln!(io::stdout(), "{}", text.as_ref()) {
            let _ = self.unwritten.set(error);
        }
    }

    /// An error if not all data could be written.
    pub(crate) fn written(&mut self) -> anyhow::Result<()> {
        self.unwritten.take().map_or(Ok(()), |error| Err(error).context("could not write to standard output"))
    }

    /// The one JSON document.
    pub(crate) fn document(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// JSON with `--json`, else what `human` prints.
    pub(crate) fn either(&self, value: &impl Serialize, human: impl FnOnce(&Self)) -> anyhow::Result<()> {
        if self.json {
            return self.document(value);
        }
        human(self);
        Ok(())
    }

    /// Rows under headings, in columns.
    pub(crate) fn table(&self, headings: &[&str], rows: Vec<Vec<String>>) {
        self.table_with_notes(headings, rows.into_iter().map(|row| (row, Vec::new())).collect());
    }

    /// The same, with lines of their own below each row: what would make a column too wide. Cells are of one line.
    pub(crate) fn table_with_notes(&self, headings: &[&str], rows: Vec<(Vec<String>, Vec<String>)>) {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(headings.iter().copied());
        let (rows, notes): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        table.add_rows(rows);
        // The first line is the headings'.
        let notes = std::iter::once(Vec::new()).chain(notes).chain(std::iter::repeat(Vec::new()));
        for (line, notes) in table.lines().zip(notes) {
            self.line(line.trim_end().trim_start_matches(' '));
            notes.iter().for_each(|note| self.line(format!("  {note}")));
        }
    }

    /// Something a person should know; not data.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Something that went wrong, with its details. Shown however quiet it should be.
    pub(crate) fn trouble(&self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }

    /// Asks a person to type yes, unless nobody is there to ask.
    pub(crate) fn confirm(&self, question: &str) -> anyhow::Result<()> {
        if !self.can_ask() {
            return Ok(());
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("could not read the answer")?;
        anyhow::ensure!(
            matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
            "not done: it was not confirmed"
        );
        Ok(())
    }

    /// Something that may be wrong.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        self.note(format!("{} {}", self.paint("33", "warning:"), text.as_ref()));
    }

    /// Why the command failed. Shown however quiet it should be.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let mut stderr = io::stderr();
        if self.json {
            let refused = error.downcast_ref::<Refused>();
            let code = refused.map_or("failed", |refused| refused.body.error.as_str());
            let request_id = refused.map(|refused| refused.body.request_id.as_str());
            let operation_id = refused.and_then(|refused| refused.body.operation_id.as_deref());
            let body = serde_json::json!({
                "error": code, "message": message, "request_id": request_id, "operation_id": operation_id,
            });
            let _ = writeln!(stderr, "{body}");
            return;
        }
        let _ = writeln!(stderr, "{} {message}", self.paint("31", "error:"));
        if let Some(hint) = hint(error) {
            let _ = writeln!(stderr, "  hint: {hint}");
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
