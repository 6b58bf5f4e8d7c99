//! What a run tells while it goes on and when it is over.

use pgdb_core::migration::ledger::SeenLock;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Something that happened, told at once.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another migrator is at work on this database; we wait.
    Waiting {
        /// The process id of its session, and what the session calls itself.
        holder: &'a str,
    },
    /// The files were compared with the ledger.
    Planned {
        /// How many files will run.
        to_run: usize,
        /// How many files there are.
        files: usize,
    },
    /// A file begins.
    Started {
        /// `schema/filename`.
        key: &'a str,
        /// From 1.
        number: usize,
        /// How many files run.
        of: usize,
    },
    /// The server said something.
    Notice {
        /// The file that made it.
        key: &'a str,
        /// What it said.
        notice: &'a Notice,
    },
    /// A lock could not be had; the file is tried again.
    Retrying {
        /// The file.
        key: &'a str,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How long we wait.
        pause: Duration,
        /// Why it failed.
        failure: &'a Failure,
    },
    /// Something that should be known.
    Warning {
        /// The file, if it is about one.
        key: Option<&'a str>,
        /// A sentence.
        message: &'a str,
    },
    /// A file has ended, well or badly.
    Ended(&'a FileReport),
}

/// Takes events as they come.
pub type Listener<'a> = &'a mut (dyn FnMut(Event<'_>) + Send);

/// NOTICE, WARNING and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// In the server's language.
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// One line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A file that was run.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// `schema/filename`.
    pub key: String,
    /// Whether it was applied; otherwise `failure` says why not.
    pub applied: bool,
    /// How long it took, retries included, in milliseconds.
    pub took_ms: u64,
    /// How often a lock could not be had.
    pub retries: u32,
    /// What the server said.
    pub notices: Vec<Notice>,
    /// Relations that were there before and were locked.
    pub locks: Vec<SeenLock>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// The whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunReport {
    /// What was run, in order.
    pub files: Vec<FileReport>,
    /// How many were applied.
    pub applied: usize,
    /// How many failed.
    pub failed: usize,
    /// Files that were to run and were not reached.
    pub not_reached: Vec<String>,
    /// Files that must not run as things are, and why; with `keep_going` the others were run all the same.
    pub refused: Vec<RefusedFile>,
    /// How many files were up to date before.
    pub up_to_date_before: usize,
    /// How long it took, in milliseconds, the wait for another migrator included.
    pub took_ms: u64,
}

/// A file that must not run as things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedFile {
    /// `schema/filename`.
    pub key: String,
    /// Why.
    pub why: String,
}

impl RunReport {
    /// Whether the database now holds everything that the files say.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.not_reached.is_empty() && self.refused.is_empty()
    }
}

/// Why a file failed, with the place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `schema/filename`.
    pub key: String,
    /// From 1.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The line itself, a long one cut to what is around the column.
    pub source: Option<String>,
    /// Where in `source` the caret stands, in characters from 0.
    pub caret: Option<usize>,
    /// The statement, from 1, as it stands in the file.
    pub statement: Option<usize>,
    /// Five characters, when the server said it.
    pub sqlstate: Option<String>,
    /// What is wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The server's functions that it happened in.
    pub context: Option<String>,
    /// What became of the statements before it.
    pub aftermath: String,
}

impl Failure {
    /// One line for those who may not see the file and what is in rows: the ledger's readers, a probe. Its place, what the
    /// server said without what that quotes of either, and the SQLSTATE; at most 300 characters.
    pub fn in_one_line(&self) -> String {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            (Some(line), None) => format!("line {line}: "),
            _ => String::new(),
        };
        let sqlstate = self.sqlstate.as_ref().map(|code| format!(" (SQLSTATE {code})")).unwrap_or_default();
        // Grammar and data: the server says what it found.
        let quotes = self.sqlstate.as_deref().is_some_and(|code| code == "42601" || code.starts_with("22"));
        let message = if quotes { without_quotes(&self.message) } else { self.message.clone() };
        // A function of theirs may have said more than a line.
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let room = LONGEST_LINE.saturating_sub(place.chars().count() + sqlstate.chars().count());
        if message.chars().count() <= room {
            return format!("{place}{message}{sqlstate}");
        }
        let cut: String = message.chars().take(room.saturating_sub(1)).collect();
        format!("{place}{cut}…{sqlstate}")
    }
}

const LONGEST_LINE: usize = 300;

/// A line break in what belongs together.
const INDENTED: &str = "\n    ";

/// A message as one thing, whatever line breaks are in it. What it quotes of the file may end with one.
fn indented(message: &str) -> String {
    let quoted = message.strip_suffix('"').map(|rest| format!("{}\"", rest.trim_end()));
    quoted.as_deref().unwrap_or(message).trim_end().replace('\n', INDENTED)
}

/// A server's message up to where it quotes, in whatever language.
fn without_quotes(message: &str) -> String {
    let ends = [" at or near ", ": \""].iter().filter_map(|mark| message.find(mark));
    let marks = ['"', '«', '»', '„', '“', '”', '‘', '’', '「', '\''];
    let end = ends.chain(message.find(marks)).min().unwrap_or(message.len());
    message[..end].trim_end().to_owned()
}

impl fmt::Display for Failure {
    /// Several lines, as a compiler shows an error; without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", indented(&self.message))?;
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        if let (Some(source), Some(line)) = (&self.source, self.line) {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n {number} | {source}")?;
            if let Some(caret) = self.caret {
                // Tabs stay tabs, so that the caret stands where a terminal shows the character.
                let blank: String = source.chars().take(caret).map(|c| if c == '\t' { c } else { ' ' }).collect();
                write!(f, "\n {margin} | {blank}^")?;
            }
        }
        for (label, text) in [("detail", &self.detail), ("hint", &self.hint), ("context", &self.context)] {
            if let Some(text) = text {
                write!(f, "\n  {label}: {}", text.replace('\n', INDENTED))?;
            }
        }
        if !self.aftermath.is_empty() {
            write!(f, "\n  {}", self.aftermath)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_a_message_splits_nothing() {
        let failure = |sqlstate: &str, message: &str| Failure {
            key: "a/1.sql".to_owned(),
            sqlstate: Some(sqlstate.to_owned()),
            message: message.to_owned(),
            ..Failure::default()
        };
        let open = failure("42601", "unterminated quoted string at or near \"'abc;\n\"");
        let shown = "a/1.sql: unterminated quoted string at or near \"'abc;\" (SQLSTATE 42601)";
        assert_eq!(open.to_string(), shown);
        assert_eq!(open.in_one_line(), "unterminated quoted string (SQLSTATE 42601)");
        let raised = failure("P0001", "first\n  second\n");
        assert_eq!(raised.to_string(), "a/1.sql: first\n      second (SQLSTATE P0001)");
        assert_eq!(raised.in_one_line(), "first second (SQLSTATE P0001)");
    }
}
