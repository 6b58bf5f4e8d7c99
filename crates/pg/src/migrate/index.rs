//! Invalid indexes: what a failed `CREATE INDEX CONCURRENTLY` leaves behind.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::split::words;

/// The index that a statement makes, if the statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its name, without quotes.
    pub(crate) name: String,
    /// Its table, as the statement writes it.
    pub(crate) table: String,
}

/// How an index stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none of this name on the table.
    Absent,
    /// It is there and whole.
    Valid,
    /// It is there and not whole; its name, quoted, with its schema.
    Invalid(String),
}

/// Reads `CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name ON [ONLY] table`.
pub(crate) fn made(statement: &str) -> Option<Made> {
    let mut words = words(statement).peekable();
    words.by_ref().find(|word| word.eq_ignore_ascii_case("concurrently"))?;
    for skipped in ["if", "not", "exists"] {
        words.next_if(|word| word.eq_ignore_ascii_case(skipped));
    }
    let name = words.next().filter(|word| !word.eq_ignore_ascii_case("on"))?;
    words.next().filter(|word| word.eq_ignore_ascii_case("on"))?;
    words.next_if(|word| word.eq_ignore_ascii_case("only"));
    let mut table = words.next()?.to_owned();
    while words.next_if_eq(&".").is_some() {
        table.push('.');
        table.push_str(words.next()?);
    }
    Some(Made { name: unquoted(name), table })
}

/// The name that PostgreSQL makes of one that was written.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

/// How the index stands now.
pub(crate) async fn standing(client: &Client, made: &Made) -> Result<Standing, PgError> {
    const SQL: &str = "SELECT i.indisvalid::text, pg_catalog.quote_ident(n.nspname) || '.' || \
         pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE i.indrelid = pg_catalog.to_regclass($1) AND c.relname = $2";
    let rows = client.query("look for the index", SQL, &[&made.table, &made.name]).await?;
    Ok(match rows.first() {
        None => Standing::Absent,
        Some(row) if row.get::<_, &str>(0) == "true" => Standing::Valid,
        Some(row) => Standing::Invalid(row.get(1)),
    })
}

/// All invalid indexes of the database, quoted, with their schemas.
pub(crate) async fn invalid(client: &Client) -> Result<Vec<String>, PgError> {
    const SQL: &str = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1";
    let rows = client.query("look for invalid indexes", SQL, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Removes one; `name` comes from [`standing`] or [`invalid`], which quote it.
pub(crate) async fn drop_index(client: &Client, name: &str) -> Result<(), PgError> {
    client.batch("drop the invalid index", &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_that_a_statement_makes_is_found() {
        let found = |sql: &str| made(sql).map(|made| (made.name, made.table));
        let pair = |name: &str, table: &str| Some((name.to_owned(), table.to_owned()));
        assert_eq!(found("CREATE INDEX CONCURRENTLY Idx ON t (a);"), pair("idx", "t"));
        assert_eq!(
            found("create unique index /* x */ concurrently if not exists \"I\"\"x\" on only \"S\".t using btree (a)"),
            pair("I\"x", "\"S\".t")
        );
        assert_eq!(found("CREATE INDEX CONCURRENTLY ON t (a)"), None);
        assert_eq!(found("CREATE INDEX i ON t (a)"), None);
    }
}
