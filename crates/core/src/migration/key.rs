//! What a migration is called: `schema/filename`.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// The longest schema or file name, in bytes; the same as a file system's limit.
pub const MAX_PART_BYTES: usize = 255;

/// The schema of a flat name without one, such as `001_create.sql`.
pub const DEFAULT_SCHEMA: &str = "public";

/// `schema/filename`; both parts are plain names. Keys are ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    text: String,
    slash: usize,
}

/// Why a name is not a key. Carries the name, shortened and with odd characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not used as a migration: {why}")]
pub struct InvalidKey {
    /// What was given.
    pub given: String,
    /// Why it is refused.
    pub why: &'static str,
}

impl Key {
    /// From a folder's and a file's name.
    pub fn new(schema: &str, file: &str) -> Result<Self, InvalidKey> {
        let refused = |why| InvalidKey { given: shown(&format!("{schema}/{file}")), why };
        check_part(schema).map_err(refused)?;
        check_part(file).map_err(refused)?;
        if !is_sql(file) {
            return Err(refused("its name does not end with .sql"));
        }
        Ok(Self { text: format!("{schema}/{file}"), slash: schema.len() })
    }

    /// From `schema/filename`.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        match text.split_once('/') {
            Some((schema, file)) => Self::new(schema, file),
            None => Err(InvalidKey { given: shown(text), why: "it has no schema in front" }),
        }
    }

    /// From a name without folders, such as a ConfigMap's key: the schema is what stands before the first `_`. A name
    /// that begins with a number (or with a repeatable's `R__`) has none and belongs to [`DEFAULT_SCHEMA`].
    pub fn flat(name: &str) -> Result<Self, InvalidKey> {
        // First of all as a whole: a part of a name with a slash in it must not look like a good one.
        check_part(name).map_err(|why| InvalidKey { given: shown(name), why })?;
        let rest = name.strip_prefix(['V', 'v']).unwrap_or(name);
        if rest.starts_with(|first: char| first.is_ascii_digit()) || is_repeatable_name(name) {
            return Self::new(DEFAULT_SCHEMA, name);
        }
        match name.split_once('_') {
            Some((schema, file)) => Self::new(schema, file),
            None => Self::new(DEFAULT_SCHEMA, name),
        }
    }

    /// `schema/filename`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folder.
    pub fn schema(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// The number that the file's name begins with (`V` may stand before it), without leading zeros. `None` without
    /// one.
    pub fn number(&self) -> Option<&str> {
        let name = self.file();
        let name = name.strip_prefix(['V', 'v']).unwrap_or(name);
        let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        let digits = &name[..end];
        if digits.is_empty() {
            return None;
        }
        let trimmed = digits.trim_start_matches('0');
        Some(if trimmed.is_empty() { "0" } else { trimmed })
    }

    /// Whether the name says that the file is run whenever it changes (`R__name.sql`).
    pub fn is_repeatable(&self) -> bool {
        is_repeatable_name(self.file())
    }
}

/// Whether a name is one that a source looks at: `.sql`, not hidden, and not the way back of another tool's migration
/// (`….down.sql`, `U1__….sql`), which must never run by itself.
pub fn is_candidate(name: &str) -> bool {
    is_sql(name) && !name.starts_with('.') && !is_way_back(name)
}

fn is_way_back(name: &str) -> bool {
    let undo = name.strip_prefix('U').is_some_and(|rest| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '_');
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest[..rest.len() - digits.len()].ends_with("__")
    });
    name.to_ascii_lowercase().ends_with(".down.sql") || undo
}

fn is_sql(name: &str) -> bool {
    name.len() > 4 && name.is_char_boundary(name.len() - 4) && name[name.len() - 4..].eq_ignore_ascii_case(".sql")
}

fn is_repeatable_name(name: &str) -> bool {
    name.starts_with("R__") || name.starts_with("r__")
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("a part of its name is empty");
    }
    if part.len() > MAX_PART_BYTES {
        return Err("its name is longer than 255 bytes");
    }
    if part.starts_with('.') {
        return Err("a part of its name begins with a dot");
    }
    if part.contains(['/', '\\']) {
        return Err("there is a path in its name");
    }
    if part.chars().any(char::is_control) {
        return Err("there is a control character in its name");
    }
    Ok(())
}

fn shown(name: &str) -> String {
    let shown: String = name.escape_debug().take(120).collect();
    if name.chars().count() > 120 { format!("{shown}…") } else { shown }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.as_bytes().cmp(other.text.as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        Self::parse(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_have_their_schema_in_front() {
        for (name, key) in [
            ("gcp_001_create_schema.sql", "gcp/001_create_schema.sql"),
            ("azure_R__views.sql", "azure/R__views.sql"),
            ("001_create.sql", "public/001_create.sql"),
            ("V2__more.sql", "public/V2__more.sql"),
            ("R__views.sql", "public/R__views.sql"),
            ("create.sql", "public/create.sql"),
            ("größe_001.SQL", "größe/001.SQL"),
        ] {
            assert_eq!(Key::flat(name).expect(name).as_str(), key);
        }
    }

    #[test]
    fn tricks_with_paths_are_refused() {
        for name in [
            "../../etc/passwd.sql",
            "gcp_../001.sql",
            "gcp_/etc/001.sql",
            "..\\x_1.sql",
            "_001.sql",
            ".._001.sql",
            "gcp_.sql",
            "gcp_..sql",
            "..data",
            "gcp_001\0.sql",
            "gcp_001\n.sql",
            "gcp_001.txt",
            "",
            &format!("gcp_{}.sql", "a".repeat(255)),
        ] {
            assert!(Key::flat(name).is_err(), "{name:?}");
        }
        for text in ["x.sql", "a/b/c.sql", "/x.sql", "a/", "../x.sql", "./x.sql", "a/../x.sql"] {
            assert!(Key::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn order_is_by_bytes() {
        let mut keys: Vec<Key> = ["b/1.sql", "a/9_x.sql", "a/10_x.sql", "a-b/1.sql", "a/Z.sql", "a/a.sql"]
            .map(|text| Key::parse(text).expect(text))
            .into();
        keys.sort();
        let texts: Vec<&str> = keys.iter().map(Key::as_str).collect();
        assert_eq!(texts, ["a-b/1.sql", "a/10_x.sql", "a/9_x.sql", "a/Z.sql", "a/a.sql", "b/1.sql"]);
    }

    #[test]
    fn numbers_are_read_without_their_zeros() {
        let number = |text: &str| Key::parse(text).expect(text).number().map(str::to_owned);
        assert_eq!(number("a/007_x.sql").as_deref(), Some("7"));
        assert_eq!(number("a/V10__x.sql").as_deref(), Some("10"));
        assert_eq!(number("a/000.sql").as_deref(), Some("0"));
        assert_eq!(number("a/20261121120000_x.sql").as_deref(), Some("20261121120000"));
        assert_eq!(number("a/x_1.sql"), None);
    }

    #[test]
    fn ways_back_are_left_alone() {
        for other in ["001_x.down.sql", "1.DOWN.SQL", "U1__x.sql", "U1.2__x.sql", ".hidden.sql", "readme.md", "sql"] {
            assert!(!is_candidate(other), "{other}");
        }
        for ours in ["001_x.up.sql", "001_shutdown.sql", "U.sql", "Users__x.sql", "V1__x.sql", "x.SQL"] {
            assert!(is_candidate(ours), "{ours}");
        }
    }
}
