//! One migration as a source gives it.

use crate::migration::checksum::Checksum;
use crate::migration::directives::{self, Directives, UnknownDirective};
use crate::migration::key::Key;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A migration: its name, the checksum of its bytes as they are, and what is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// `schema/filename`.
    pub key: Key,
    /// Over the bytes as they are.
    pub checksum: Checksum,
    /// Its text, or why it has none. A bad file is no reason not to plan the others.
    pub content: Result<Content, ContentError>,
}

/// The text of a good file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Without a byte order mark, and without another tool's way back; otherwise as it is.
    pub sql: String,
    /// What its first lines say. `repeatable` also when the name says so.
    pub directives: Directives,
}

/// Why bytes are not a migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Some other encoding.
    #[error("line {line}, byte {byte} of it: this is not UTF-8{}", if *.utf16 { "; the file looks like UTF-16, save it as UTF-8" } else { "" })]
    NotUtf8 {
        /// From 1.
        line: usize,
        /// From 1, in the line.
        byte: usize,
        /// Whether it begins as UTF-16 does.
        utf16: bool,
    },
    /// PostgreSQL's protocol ends text there.
    #[error("line {line}: there is a NUL byte, which PostgreSQL cannot take")]
    Nul {
        /// From 1.
        line: usize,
    },
    /// A directive that does not exist.
    #[error(transparent)]
    Directive(#[from] UnknownDirective),
}

impl File {
    /// From what a source holds under this name.
    pub fn new(key: Key, bytes: Vec<u8>) -> Self {
        let checksum = Checksum::of(&bytes);
        let content = content(bytes).map(|(sql, mut directives)| {
            directives.repeatable |= key.is_repeatable();
            Content { sql, directives }
        });
        Self { key, checksum, content }
    }

    /// Whether it is run whenever it changes.
    pub fn is_repeatable(&self) -> bool {
        self.content.as_ref().map_or_else(|_| self.key.is_repeatable(), |content| content.directives.repeatable)
    }
}

fn content(mut bytes: Vec<u8>) -> Result<(String, Directives), ContentError> {
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    if bytes.starts_with(BOM) {
        bytes.drain(..BOM.len());
    }
    let mut sql = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        ContentError::NotUtf8 { line: line_of(good), byte: good.len() - line_start + 1, utf16 }
    })?;
    if let Some(at) = sql.find('\0') {
        return Err(ContentError::Nul { line: line_of(&sql.as_bytes()[..at]) });
    }
    let directives = directives::parse(&sql)?;
    if let Some(at) = directives::way_back(&sql) {
        sql.truncate(at);
    }
    Ok((sql, directives))
}

/// The line, from 1, that comes after these bytes.
fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> File {
        File::new(Key::parse(name).expect(name), bytes.to_vec())
    }

    #[test]
    fn a_byte_order_mark_is_part_of_the_checksum_and_not_of_the_text() {
        let with = file("a/1.sql", b"\xef\xbb\xbfSELECT 1;\r\n");
        let without = file("a/1.sql", b"SELECT 1;\r\n");
        assert_eq!(with.content, without.content);
        assert_ne!(with.checksum, without.checksum);
        assert_eq!(with.content.expect("good").sql, "SELECT 1;\r\n");
    }

    #[test]
    fn bad_bytes_are_told_with_their_place() {
        let bad = file("a/1.sql", b"SELECT 1;\nSELECT '\xe4';\n").content.expect_err("Latin-1");
        assert_eq!(bad, ContentError::NotUtf8 { line: 2, byte: 9, utf16: false });
        let bad = file("a/1.sql", b"\xff\xfeS\0").content.expect_err("UTF-16");
        assert!(bad.to_string().contains("save it as UTF-8"), "{bad}");
        let bad = file("a/1.sql", b"SELECT 1;\n\0").content.expect_err("NUL");
        assert_eq!(bad, ContentError::Nul { line: 2 });
        assert!(matches!(file("a/1.sql", b"-- pgdb: x").content, Err(ContentError::Directive(_))));
    }

    #[test]
    fn another_tools_way_back_is_no_part_of_it() {
        let both = file("a/1.sql", b"-- migrate:up\nSELECT 1;\n-- migrate:down\nDROP TABLE t;\n");
        assert_eq!(both.content.expect("good").sql, "-- migrate:up\nSELECT 1;\n");
    }

    #[test]
    fn names_and_directives_make_a_file_repeatable() {
        assert!(file("a/R__x.sql", b"").is_repeatable());
        assert!(file("a/R__x.sql", b"\xff").is_repeatable());
        assert!(file("a/1.sql", b"-- pgdb: repeatable\n").is_repeatable());
        assert!(!file("a/1.sql", b"").is_repeatable());
    }
}
