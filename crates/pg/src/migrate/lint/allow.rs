//! `-- pgdb: allow(RULE, …) REASON`: a file, or a statement of it, is excused from a rule.
//!
//! Before the first statement it stands for the whole file; elsewhere for the statement that it stands in, that it
//! follows on the same line, or that comes next.

use super::own;
use super::rules::{BAD_ALLOW, NEEDS_NO_TRANSACTION, judge, names};
use squawk_linter::Rule;
use squawk_syntax::ast::AstNode;
use squawk_syntax::{Parse, SourceFile, SyntaxKind};
use std::ops::Range;

/// What is excused.
struct Allow {
    rule: String,
    reason: String,
    /// Where it is written.
    at: usize,
    /// The bytes it stands for.
    over: Range<usize>,
}

/// All that a file excuses, and what is wrong with that.
#[derive(Default)]
pub(super) struct Allows {
    allows: Vec<Allow>,
    faults: Vec<(usize, &'static str, String)>,
}

impl Allows {
    /// Reads a file's comments. What looks like one inside a string or a function's body is none.
    pub(super) fn read(parsed: &Parse<SourceFile>, text: &str) -> Self {
        let statements: Vec<Range<usize>> =
            parsed.tree().stmts().map(|statement| own_range(statement.syntax())).collect();
        let mut read = Self::default();
        for token in parsed.syntax_node().descendants_with_tokens().filter_map(|element| element.into_token()) {
            if token.kind() != SyntaxKind::COMMENT {
                continue;
            }
            let Some(said) = directive(token.text()) else { continue };
            let at = usize::from(token.text_range().start());
            read.take(said, at, scope(&statements, text, at));
        }
        read
    }

    fn take(&mut self, said: &str, at: usize, over: Range<usize>) {
        let parts = said.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let Some((names, reason)) = parts else {
            let message = "write it as `-- pgdb: allow(RULE) REASON`".to_owned();
            return self.faults.push((at, BAD_ALLOW, message));
        };
        let reason = reason.trim_start_matches([':', ' ', '\t']).trim();
        if reason.is_empty() {
            let message = format!("allow({}) needs a reason behind it", names.trim());
            self.faults.push((at, BAD_ALLOW, message));
        }
        for name in names.split(',').map(str::trim) {
            match rule(name) {
                Ok(_) if reason.is_empty() => {}
                Ok(rule) => self.allows.push(Allow { rule, reason: reason.to_owned(), at, over: over.clone() }),
                Err(message) => self.faults.push((at, BAD_ALLOW, message)),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.allows.len()
    }

    /// The first that excuses this rule at this place.
    pub(super) fn covering(&self, rule: &str, at: usize) -> Option<usize> {
        self.allows.iter().position(|allow| allow.rule == rule && allow.over.contains(&at))
    }

    pub(super) fn reason(&self, index: usize) -> &str {
        &self.allows[index].reason
    }

    pub(super) fn rule(&self, index: usize) -> &str {
        &self.allows[index].rule
    }

    pub(super) fn at(&self, index: usize) -> usize {
        self.allows[index].at
    }

    /// Where something is wrong, the name of that, and what.
    pub(super) fn faults(&self) -> impl Iterator<Item = (usize, &'static str, String)> + '_ {
        self.faults.iter().cloned()
    }
}

/// What follows `-- pgdb: allow`.
fn directive(comment: &str) -> Option<&str> {
    let said = comment.strip_prefix("--")?.trim().strip_prefix("pgdb:")?.trim_start();
    let rest = said.strip_prefix("allow")?;
    (!rest.starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_')).then(|| rest.trim())
}

/// A statement without the space and the comments around it.
pub(super) fn own_range(node: &squawk_syntax::SyntaxNode) -> Range<usize> {
    let mut own = node.children_with_tokens().filter(|part| !part.kind().is_trivia()).map(|part| part.text_range());
    let whole = node.text_range();
    let first = own.next().unwrap_or(whole);
    usize::from(first.start())..usize::from(whole.end())
}

fn scope(statements: &[Range<usize>], text: &str, at: usize) -> Range<usize> {
    let Some(first) = statements.first() else { return 0..text.len() };
    if at < first.start {
        return 0..text.len();
    }
    if let Some(around) = statements.iter().find(|statement| statement.contains(&at)) {
        return around.clone();
    }
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    if !text[line..at].trim().is_empty()
        && let Some(before) = statements.iter().rev().find(|statement| statement.end <= at)
    {
        return before.clone();
    }
    statements.iter().find(|statement| statement.start >= at).cloned().unwrap_or(at..at)
}

/// The name under which a rule's findings are told.
fn rule(name: &str) -> Result<String, String> {
    let cannot = || format!("'{name}' cannot be allowed: what it finds does not run");
    if name == NEEDS_NO_TRANSACTION {
        return Err(cannot());
    }
    if own::RULES.iter().any(|(rule, _)| *rule == name) {
        return Ok(name.to_owned());
    }
    let Ok(rule) = Rule::try_from(name) else {
        let near = nearest(name).map_or(String::new(), |near| format!("; did you mean '{near}'?"));
        return Err(format!("there is no rule '{name}'{near}"));
    };
    match judge(rule, false) {
        None => Err(format!("'{name}' is not looked at here and needs no allow")),
        Some(rank) if !rank.can_be_allowed => Err(cannot()),
        Some(_) => Ok(rule.to_string()),
    }
}

/// The rule whose name is at most three changes away.
fn nearest(name: &str) -> Option<String> {
    names().map(|known| (distance(name, &known), known)).filter(|(far, _)| *far <= 3).min().map(|(_, known)| known)
}

/// How many characters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
