//! A file cut into statements, without understanding more of them than that takes.
//!
//! What cannot be understood is never refused here: it stays one statement, and PostgreSQL says what it thinks of it.
//! Refused is only what PostgreSQL would not understand either and people write for psql.

mod kind;
mod lexer;
#[cfg(test)]
mod tests;

use kind::Reader;
pub use kind::{Kind, Outer};
use lexer::{Lexer, Token};
use std::ops::Range;

/// One statement. Between two of them there is only white space and comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// From its first word to its semicolon, which the last one may lack.
    pub span: Range<usize>,
    /// What it is, as far as that matters to a runner.
    pub kind: Kind,
    /// Of a `COPY … FROM STDIN`: the lines with its data, without the end mark.
    pub data: Option<Range<usize>>,
}

/// Why a text cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A command for psql.
    #[error("'{command}' is a command of psql, not SQL, and is not run here; write it as SQL, or take the line out")]
    MetaCommand {
        /// Where.
        at: usize,
        /// The backslash and its word.
        command: String,
    },
    /// Nobody is there to read.
    #[error("COPY … TO STDOUT has nobody to write to in a migration")]
    CopyToStdout {
        /// Where.
        at: usize,
    },
    /// The data would swallow the rest of the file.
    #[error("the data of this COPY … FROM STDIN has no end: a line with nothing but \\. is missing")]
    CopyWithoutEnd {
        /// Where the statement begins.
        at: usize,
    },
    /// The data begins in the next line.
    #[error("after COPY … FROM STDIN; the data begins in the next line, so nothing can stand here")]
    TextAfterCopy {
        /// Where.
        at: usize,
    },
}

impl SplitError {
    /// Where it is: an offset in bytes.
    pub fn at(&self) -> usize {
        match self {
            Self::MetaCommand { at, .. }
            | Self::CopyToStdout { at }
            | Self::CopyWithoutEnd { at }
            | Self::TextAfterCopy { at } => *at,
        }
    }
}

/// Cuts a text into its statements, in order.
pub fn split(text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut statements = Vec::new();
    let mut lexer = Lexer::new(text);
    let mut reader = Reader::default();
    let mut begin: Option<usize> = None;
    let mut end = 0;
    while let Some(token) = lexer.next() {
        let span = token.span();
        if let Token::Backslash(at) = token {
            return Err(SplitError::MetaCommand { at, command: meta_command(&text[at..]) });
        }
        let is_end = matches!(token, Token::Semicolon(_)) && reader.can_end();
        if is_end && begin.is_none() {
            // A semicolon by itself is an empty statement, which is none.
            continue;
        }
        let first = *begin.get_or_insert(span.start);
        end = span.end;
        if !is_end {
            reader.read(text, &token);
            continue;
        }
        let kind = std::mem::take(&mut reader).kind();
        let mut statement = Statement { span: first..end, kind, data: None };
        begin = None;
        match kind {
            Kind::CopyToStdout => return Err(SplitError::CopyToStdout { at: first }),
            Kind::CopyFromStdin => {
                let (data, after) = copy_data(text, first, end)?;
                statement.data = Some(data);
                lexer.jump(after);
            }
            _ => {}
        }
        statements.push(statement);
    }
    if let Some(first) = begin {
        let kind = reader.kind();
        match kind {
            Kind::CopyToStdout => return Err(SplitError::CopyToStdout { at: first }),
            Kind::CopyFromStdin => return Err(SplitError::CopyWithoutEnd { at: first }),
            _ => statements.push(Statement { span: first..end, kind, data: None }),
        }
    }
    Ok(statements)
}

fn meta_command(text: &str) -> String {
    text.chars().take_while(|c| !c.is_whitespace()).take(40).collect()
}

/// The data that follows a COPY, and where the text goes on.
fn copy_data(text: &str, copy: usize, end: usize) -> Result<(Range<usize>, usize), SplitError> {
    let without_end = || SplitError::CopyWithoutEnd { at: copy };
    let rest = &text[end..];
    let line_end = rest.find('\n').ok_or_else(without_end)?;
    let line = rest[..line_end].trim();
    if !line.is_empty() && !line.starts_with("--") {
        let blank = rest.len() - rest.trim_start().len();
        return Err(SplitError::TextAfterCopy { at: end + blank });
    }
    let first = end + line_end + 1;
    let mut at = first;
    for line in text[first..].split_inclusive('\n') {
        if line.trim_end_matches(['\n', '\r']) == "\\." {
            return Ok((first..at, at + line.len()));
        }
        at += line.len();
    }
    Err(without_end())
}

/// The `BEGIN` and `COMMIT` around a whole file, if it has them and no others.
pub fn outer(text: &str, statements: &[Statement]) -> Option<Outer> {
    let [first, inner @ .., last] = statements else { return None };
    let around = first.kind == Kind::Begin && last.kind == Kind::Commit;
    let others = inner.iter().any(|statement| statement.kind.controls_transaction());
    (around && !others).then(|| Outer { modes: kind::modes(&text[first.span.clone()]) })
}

/// Puts blanks in the place of a statement's words, so that every character after it stays where it is.
pub(crate) fn blank_words(text: &mut String, span: Range<usize>) {
    let words: Vec<Range<usize>> = Lexer::new(&text[span.clone()]).map(|token| token.span()).collect();
    for word in words {
        let blank = " ".repeat(word.len());
        text.replace_range(span.start + word.start..span.start + word.end, &blank);
    }
}

/// Whether what stands behind a text is not part of a comment, a string or a name that it has begun.
pub(crate) fn is_closed(text: &str) -> bool {
    let followed = format!("{text}\n;");
    Lexer::new(&followed).last() == Some(Token::Semicolon(followed.len() - 1))
}

/// The words, names and signs of a text, without white space and comments.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    Lexer::new(text).map(|token| &text[token.span()])
}
