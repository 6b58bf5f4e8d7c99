//! The index that a statement makes.

use crate::migrate::split::words;

/// The index that a `CREATE INDEX CONCURRENTLY` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its name, without quotes; without one PostgreSQL finds one.
    pub(crate) name: Option<String>,
    /// Its table, as the statement writes it.
    pub(crate) table: String,
}

/// Reads `CREATE [UNIQUE] INDEX CONCURRENTLY [[IF NOT EXISTS] name] ON [ONLY] table`.
pub(crate) fn made(statement: &str) -> Option<Made> {
    let mut words = words(statement).peekable();
    words.by_ref().find(|word| word.eq_ignore_ascii_case("concurrently"))?;
    for skipped in ["if", "not", "exists"] {
        words.next_if(|word| word.eq_ignore_ascii_case(skipped));
    }
    let name = words.next_if(|word| !word.eq_ignore_ascii_case("on"));
    words.next().filter(|word| word.eq_ignore_ascii_case("on"))?;
    words.next_if(|word| word.eq_ignore_ascii_case("only"));
    let mut table = words.next()?.to_owned();
    while words.next_if_eq(&".").is_some() {
        table.push('.');
        table.push_str(words.next()?);
    }
    Some(Made { name: name.map(unquoted), table })
}

/// The name that PostgreSQL makes of one that was written.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_that_a_statement_makes_is_found() {
        let found = |sql: &str| made(sql).map(|made| (made.name, made.table));
        let pair = |name: &str, table: &str| Some((Some(name.to_owned()), table.to_owned()));
        assert_eq!(found("CREATE INDEX CONCURRENTLY Idx ON t (a);"), pair("idx", "t"));
        assert_eq!(
            found("create unique index /* x */ concurrently if not exists \"I\"\"x\" on only \"S\".t using btree (a)"),
            pair("I\"x", "\"S\".t")
        );
        assert_eq!(found("CREATE INDEX CONCURRENTLY ON t (a)"), Some((None, "t".to_owned())));
        assert_eq!(found("CREATE INDEX i ON t (a)"), None);
    }
}
