//! What is dangerous about a migration, said before it runs: locks that stop an application, tables written anew,
//! things that the running version of an application still uses.
//!
//! The rules are squawk's, of which `rules` tells which matter here, and how much, and `mend` puts right what they get
//! wrong; in `own` are some of ours. A file, or a statement of it, can be excused from a rule by
//! `-- pgdb: allow(RULE) REASON`, see `allow`. What matters less on the database at hand is lowered by `weigh`. SQL that the
//! parser does not know is no fault of the file: the rest of it is looked at, and a note says so.

mod allow;
mod defaults;
mod depth;
mod made;
mod mend;
mod own;
mod rules;
mod weigh;

pub use rules::{RuleInfo, rules};
pub use weigh::weigh;

use self::allow::Allows;
use self::depth::is_deep;
use self::made::Made;
use self::mend::mend;
use self::rules::{
    NEEDS_NO_TRANSACTION, NOT_RUNNABLE, NOT_UNDERSTOOD, SLOW, UNREADABLE, UNUSED_ALLOW, is_repeated, judge,
};
use self::weigh::{Ask, Scope};
use crate::migrate::place::of_byte;
use crate::migrate::split::{Statement, outer, split};
use pgdb_core::migration::file::File;
use serde::Serialize;
use squawk_linter::{Linter, LinterSettings, Rule, Version};
use squawk_syntax::SourceFile;

/// Bytes of a file from which on it is not looked at: such a file is data, and a tree of it takes gigabytes.
const TOO_LARGE: usize = 2 << 20;

/// Bytes of stack for the parser, which are taken as they are needed: what it needs for the deepest text that it gets,
/// many times over.
const STACK: usize = 256 << 20;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// What runs now may still use what goes away, or the file leaves something half done when it fails.
    Warning,
    /// It stops the application while it runs, or fails.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What the linter has to know besides the text.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The server's major version; 0 when there is no server to ask.
    pub major: u16,
    /// Whether the file runs in one transaction.
    pub transaction: bool,
}

/// Something about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's name, as `allow(…)` takes it.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// Where, in lines from 1.
    pub line: usize,
    /// Where in the line, in characters from 1.
    pub column: usize,
    /// What it is.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The table or index it is about, as the file writes it.
    pub relation: Option<String>,
    /// What the database is asked about that.
    #[serde(skip)]
    ask: Ask,
    /// The reason for which it is allowed.
    pub allowed: Option<String>,
}

impl Finding {
    /// Whether it says that the file cannot be cut into statements.
    pub fn is_not_runnable(&self) -> bool {
        self.rule == NOT_RUNNABLE
    }

    /// Whether it is to be told as what it is: it has not been allowed.
    pub fn counts(&self) -> bool {
        self.allowed.is_none()
    }
}

/// Looks at a file. `major` is the server's major version; 0 when there is no server to ask.
pub fn lint_file(file: &File, major: u16) -> Vec<Finding> {
    match &file.content {
        Ok(content) => lint(&content.sql, Setting { major, transaction: !content.directives.no_transaction }),
        Err(error) => vec![plain(UNREADABLE, Severity::Error, (1, 1), error.to_string())],
    }
}

/// Of what lies where files should be and cannot be read as one.
pub fn unreadable(message: String) -> Finding {
    plain(UNREADABLE, Severity::Error, (1, 1), message)
}

/// Looks at a file's text, without a byte order mark. Findings come in the order of the text.
///
/// The parser goes as deep as the text is nested, and so does what it leaves behind: it gets a thread with room for
/// that, and nothing that is nested deeper.
pub fn lint(text: &str, setting: Setting) -> Vec<Finding> {
    let unseen = |message: String| vec![plain(rules::TOO_LARGE, Severity::Note, (1, 1), message)];
    if text.len() > TOO_LARGE {
        return unseen(format!("{} bytes are too many to look at; split statements from data", text.len()));
    }
    let looked = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("lint".to_owned()).stack_size(STACK);
        thread.spawn_scoped(scope, || look(text, setting)).map(|running| running.join())
    });
    match looked {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => unseen("the linter cannot look at this file: it gave up".to_owned()),
        Err(error) => unseen(format!("the linter cannot look at this file: it got no memory ({error})")),
    }
}

fn look(text: &str, setting: Setting) -> Vec<Finding> {
    let statements = match split(text) {
        Ok(statements) => statements,
        Err(error) => return vec![plain(NOT_RUNNABLE, Severity::Error, place(text, error.at()), error.to_string())],
    };
    let text = &without_data(text, &statements);
    if let Some(statement) = statements.iter().find(|statement| is_deep(&text[statement.span.clone()])) {
        let message = "this statement is nested too deeply to look at, and so the file was not".to_owned();
        return vec![plain(rules::TOO_LARGE, Severity::Note, place(text, statement.span.start), message)];
    }
    let parsed = SourceFile::parse(text);
    let allows = Allows::read(&parsed, text);
    let wrapped = outer(text, &statements).is_some();

    let mut linter = Linter::from(rules::known().filter(|rule| judge(*rule, setting.transaction).is_some()));
    linter.settings = LinterSettings {
        pg_version: version(setting.major),
        // A transaction of the file's own is one that the linter sees itself.
        assume_in_transaction: setting.transaction && !wrapped,
    };
    let made = Made::read(&parsed);
    let mut used = vec![false; allows.len()];
    let mut excuse = |finding: &mut Finding, at: usize| {
        if let Some(index) = allows.covering(&finding.rule, at) {
            used[index] = true;
            finding.allowed = Some(allows.reason(index).to_owned());
        }
    };
    let mut found: Vec<(usize, Finding)> = Vec::new();
    for violation in linter.lint(&parsed, text) {
        let Some(rank) = judge(violation.code, setting.transaction) else { continue };
        let at = usize::from(violation.text_range.start());
        if violation.code == Rule::PreferRobustStmts {
            let around = statements.iter().find(|statement| statement.span.contains(&at));
            if !around.is_some_and(|statement| is_repeated(statement.kind)) {
                continue;
            }
        }
        for (at, mut finding) in mend(&violation, rank, &parsed, &made, text) {
            if rank.can_be_allowed {
                excuse(&mut finding, at);
            }
            found.push((at, finding));
        }
    }
    for danger in own::look(&parsed, &made) {
        let mut finding = plain(danger.rule, SLOW.severity, place(text, danger.at), danger.message);
        finding.help = Some(danger.help.to_owned());
        finding.relation = danger.relation;
        let scope = if danger.alone { Scope::Alone } else { Scope::All };
        finding.ask = Ask { grows: SLOW.grows, scope, check: danger.check };
        excuse(&mut finding, danger.at);
        found.push((danger.at, finding));
    }
    if setting.transaction {
        found.extend(in_transaction(text, &statements));
    }
    found.extend(
        allows.faults().map(|(at, rule, message)| (at, plain(rule, Severity::Error, place(text, at), message))),
    );
    for (index, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        let at = allows.at(index);
        let message = format!("nothing here needs allow({})", allows.rule(index));
        found.push((at, plain(UNUSED_ALLOW, Severity::Note, place(text, at), message)));
    }
    if let Some(error) = parsed.errors().first() {
        let at = usize::from(error.range().start());
        let message = format!("the linter does not understand this and may have overlooked something: {error}");
        found.push((at, plain(NOT_UNDERSTOOD, Severity::Note, place(text, at), message)));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, finding)| finding).collect()
}

/// Line and column, both from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let place = of_byte(text, at);
    (place.line, place.column)
}

fn plain(rule: &str, severity: Severity, (line, column): (usize, usize), message: String) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity,
        line,
        column,
        message,
        help: None,
        relation: None,
        ask: Ask::default(),
        allowed: None,
    }
}

/// What PostgreSQL refuses in the transaction that the runner makes.
fn in_transaction(text: &str, statements: &[Statement]) -> Vec<(usize, Finding)> {
    let refused = statements.iter().filter(|statement| statement.kind.is_alone());
    let told = refused.map(|statement| {
        let at = statement.span.start;
        let message = "this does not run inside a transaction, which every file without the directive is".to_owned();
        let mut finding = plain(NEEDS_NO_TRANSACTION, Severity::Error, place(text, at), message);
        finding.help = Some("begin the file with `-- pgdb: no-transaction`".to_owned());
        (at, finding)
    });
    told.collect()
}

fn version(major: u16) -> Version {
    major.to_string().parse().ok().filter(|_| major > 0).unwrap_or_default()
}

/// The text with spaces in place of the data of `COPY … FROM stdin`, which is no SQL. Nothing moves.
fn without_data(text: &str, statements: &[Statement]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for data in statements.iter().filter_map(|statement| statement.data.clone()) {
        // Its end mark is a line too, and the data ends before it.
        let mark = text[data.end..].find('\n').map_or(text.len(), |end| data.end + end);
        for byte in bytes[data.start..mark].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
    }
    // Whole lines were overwritten, so no character was cut.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests;
