//! `pgdb migrate lint`.

use super::Context;
use super::source::SourceArgs;
use crate::error::Found;
use crate::printer::Printer;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::{Policy, plan};
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::lint::{Finding, RuleInfo, Severity, lint_file, rules, unreadable, weigh};
use pgdb_pg::migrate::session::Session;
use pgdb_server::migrations::directory::Found as FoundFiles;
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
    /// Only these files, as SCHEMA/NAME.sql or by their paths.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// The major version of PostgreSQL that the files are for.
    #[arg(long, value_name = "N", default_value_t = 15)]
    postgres: u16,
    /// List the rules instead, with their severities.
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
            let rules = rules();
            let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            return cx.printer.either(&names, |printer| listed(printer, &rules));
        }
        let FoundFiles { files, left_out } = self.source.find(cx)?;
        let keys: BTreeSet<String> =
            self.keys.iter().map(|named| self.source.known_key(&files, named)).collect::<Result<_, _>>()?;
        let wanted = |key: &str| keys.is_empty() || keys.contains(key);
        let mut looked: Vec<FileFindings> = files
            .iter()
            .filter(|file| wanted(file.key.as_str()))
            .map(|file| FileFindings { key: file.key.to_string(), findings: lint_file(file, self.postgres) })
            .collect();
        if self.keys.is_empty() && !left_out.is_empty() {
            let findings = left_out.into_iter().map(unreadable);
            let key = self.source.dir.display().to_string();
            looked.push(FileFindings { key, findings: findings.collect() });
        }
        let count = |severity| {
            let all = looked.iter().flat_map(|file| &file.findings);
            all.filter(|one| one.counts() && one.severity == severity).count()
        };
        let number = files.iter().filter(|file| wanted(file.key.as_str())).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let found = Looked { errors, warnings, notes: count(Severity::Note), files: looked };
        cx.printer.either(&found, |printer| {
            let told = found.files.iter().flat_map(|file| lines(&file.key, &file.findings));
            told.for_each(|line| printer.line(line));
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

/// The rules, a line each.
fn listed(printer: &Printer, rules: &[RuleInfo]) {
    let rows = rules.iter().map(|rule| vec![rule.name.clone(), rule.severity.word().to_owned(), rule.what.to_owned()]);
    printer.table(&["RULE", "SEVERITY", "WHAT IT FINDS"], rows.collect());
    let never: Vec<&str> = rules.iter().filter(|rule| !rule.can_be_allowed).map(|rule| rule.name.as_str()).collect();
    printer.note(format!("allow(RULE) takes all but {}", never.join(", ")));
}

/// `1 error`, `2 errors`.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What is dangerous about a file on this database.
pub(super) async fn weighed(session: &Session, file: &File) -> anyhow::Result<Vec<Finding>> {
    let mut findings = lint_file(file, session.client().major());
    weigh(session.client(), &mut findings).await?;
    Ok(findings)
}

/// What counts, in lines as compilers show it: place, severity, rule; below it what it is and what to do.
pub(super) fn lines(key: &str, findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings.iter().filter(|finding| finding.counts()) {
        let Finding { rule, line, column, severity, message, help, .. } = finding;
        lines.push(format!("{key}:{line}:{column}: {}: {rule}", severity.word()));
        lines.push(format!("  {message}"));
        lines.extend(help.as_ref().map(|help| format!("  help: {help}")));
    }
    lines
}

/// Refuses to run files that the lint has errors about.
pub(super) async fn gate(cx: &Context<'_>, session: &Session, files: &[File], policy: Policy) -> anyhow::Result<()> {
    let rows = ledger::read(session.client()).await?.unwrap_or_default();
    let may_be_allowed: BTreeSet<String> =
        rules().into_iter().filter(|rule| rule.can_be_allowed).map(|rule| rule.name).collect();
    let (mut errors, mut excusable) = (0, false);
    for item in plan(files, &rows, policy).to_run() {
        let findings = weighed(session, item.file).await?;
        for one in findings.iter().filter(|one| one.counts() && one.severity == Severity::Error) {
            errors += 1;
            excusable |= may_be_allowed.contains(&one.rule);
        }
        lines(item.file.key.as_str(), &findings).iter().for_each(|line| cx.printer.note(line));
    }
    let excuse = if excusable { ", or excuse it with `-- pgdb: allow(RULE) REASON`" } else { "" };
    anyhow::ensure!(errors == 0, "nothing was run: the lint has {}; mend it{excuse}", counted(errors, "error"));
    Ok(())
}
