//! Quoting names and text for SQL that cannot take parameters (`ALTER ROLE`, `CREATE DATABASE`…).

use postgres_protocol::escape;

/// PostgreSQL cuts longer identifiers off without an error, so that two names could become one.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// Why something cannot be put into SQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// A name of no characters.
    #[error("an identifier cannot be empty")]
    Empty,
    /// PostgreSQL ends text at a NUL byte.
    #[error("text for PostgreSQL cannot contain a NUL byte")]
    Nul,
    /// More than [`MAX_IDENTIFIER_BYTES`].
    #[error("an identifier has at most 63 bytes, not {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

/// `name` as a quoted identifier.
pub fn identifier(name: &str) -> Result<String, QuoteError> {
    if name.is_empty() {
        return Err(QuoteError::Empty);
    }
    if name.contains('\0') {
        return Err(QuoteError::Nul);
    }
    if name.len() > MAX_IDENTIFIER_BYTES {
        return Err(QuoteError::TooLong { bytes: name.len() });
    }
    Ok(escape::escape_identifier(name))
}

/// `text` as a string literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> Result<String, QuoteError> {
    if text.contains('\0') { Err(QuoteError::Nul) } else { Ok(escape::escape_literal(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_one_identifier() {
        for (given, quoted) in [
            ("plain", r#""plain""#),
            ("Select", r#""Select""#),
            (r#"a"b"#, r#""a""b""#),
            (r#""; DROP DATABASE x; --"#, r#""""; DROP DATABASE x; --""#),
            (r"back\slash", r#""back\slash""#),
            ("it's", r#""it's""#),
            ("new\nline", "\"new\nline\""),
            ("größe", r#""größe""#),
        ] {
            assert_eq!(identifier(given).expect(given), quoted);
        }
    }

    #[test]
    fn what_postgresql_would_change_is_refused() {
        assert_eq!(identifier(""), Err(QuoteError::Empty));
        assert_eq!(identifier("a\0b"), Err(QuoteError::Nul));
        assert!(identifier(&"a".repeat(63)).is_ok());
        assert_eq!(identifier(&"a".repeat(64)), Err(QuoteError::TooLong { bytes: 64 }));
        // 32 characters, 64 bytes: the limit is in bytes.
        assert_eq!(identifier(&"ö".repeat(32)), Err(QuoteError::TooLong { bytes: 64 }));
    }

    #[test]
    fn hostile_text_stays_one_literal() {
        for (given, quoted) in
            [("", "''"), ("it's", "'it''s'"), (r"a\'b", r" E'a\\''b'"), ("'; DROP ROLE x; --", "'''; DROP ROLE x; --'")]
        {
            assert_eq!(literal(given).expect(given), quoted);
        }
        assert_eq!(literal("a\0"), Err(QuoteError::Nul));
    }
}
