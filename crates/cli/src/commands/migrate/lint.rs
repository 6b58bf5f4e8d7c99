//! `pgdb migrate lint`.

use super::Context;
use super::source::SourceArgs;
use crate::error::{Found, Usage};
use crate::printer::Printer;
use clap::Args;
use pgdb_pg::migrate::lint::{Finding, Severity, lint_file, rule_names};
use serde::Serialize;
use std::collections::BTreeSet;

/// Tell what is dangerous about migrations: locks, rewrites, what the application still uses. Needs no database.
#[derive(Debug, Args)]
#[command(after_help = "A file, or one statement of it, is excused by a comment with the reason:\n  \
                        -- pgdb: allow(ban-drop-column) nothing has read it since 4.2\n\n\
                        Exit status: 0 no errors, 1 errors (with --strict also warnings).")]
pub(crate) struct Lint {
    #[command(flatten)]
    source: SourceArgs,
    /// Only these files, as SCHEMA/NAME.sql.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// The major version of PostgreSQL that the files are for.
    #[arg(long, value_name = "N", default_value_t = 15)]
    postgres: u16,
    /// List the rules instead.
    #[arg(long)]
    rules: bool,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct FileFindings {
    key: String,
    findings: Vec<Finding>,
}

/// What was found in all.
#[derive(Debug, Serialize)]
struct Looked {
    files: Vec<FileFindings>,
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Lint {
    pub(crate) fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        if self.rules {
            let names = rule_names();
            return cx.printer.either(&names, |printer| names.iter().for_each(|name| printer.line(name)));
        }
        let files = self.source.read(cx)?;
        let known: BTreeSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
        if let Some(stranger) = self.keys.iter().find(|key| !known.contains(key.as_str())) {
            return Err(Usage(format!("there is no migration '{stranger}' in {}", self.source.dir.display())).into());
        }
        let wanted = |key: &str| self.keys.is_empty() || self.keys.iter().any(|one| one == key);
        let looked: Vec<FileFindings> = files
            .iter()
            .filter(|file| wanted(file.key.as_str()))
            .map(|file| FileFindings { key: file.key.to_string(), findings: lint_file(file, self.postgres) })
            .collect();
        let count = |severity| {
            let all = looked.iter().flat_map(|file| &file.findings);
            all.filter(|one| one.counts() && one.severity == severity).count()
        };
        let number = looked.len();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let found = Looked { errors, warnings, notes: count(Severity::Note), files: looked };
        cx.printer.either(&found, |printer| {
            found.files.iter().for_each(|file| print(printer, &file.key, &file.findings));
        })?;
        cx.printer.note(format!(
            "{}, {}, {} in {}",
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(found.notes, "note"),
            counted(number, "file")
        ));
        if errors > 0 || (warnings > 0 && self.strict) {
            return Err(Found(1).into());
        }
        Ok(())
    }
}

/// `1 error`, `2 errors`.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What counts, as compilers show it: place, severity, rule; below it what it is and what to do.
pub(super) fn print(printer: &Printer, key: &str, findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.counts()) {
        let Finding { rule, line, column, severity, message, help, .. } = finding;
        printer.line(format!("{key}:{line}:{column}: {}: {rule}", severity.word()));
        printer.line(format!("  {message}"));
        if let Some(help) = help {
            printer.line(format!("  help: {help}"));
        }
    }
}
