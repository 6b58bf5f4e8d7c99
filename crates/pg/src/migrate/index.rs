//! Invalid indexes: what a `CREATE INDEX CONCURRENTLY` or `REINDEX … CONCURRENTLY` leaves behind that did not come to its
//! end. Which ones are a statement's own is known by what was there before it.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::split::words;
use serde::{Deserialize, Serialize};

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// It makes an index.
    Create {
        /// Its name without quotes, unless PostgreSQL makes one.
        name: Option<String>,
        /// Its table, as the statement writes it.
        table: String,
        /// What it is made of, in order: a column, or `None` for an expression.
        columns: Vec<Option<String>>,
    },
    /// It makes indexes anew: this one, or those of this table, as the statement writes it.
    Relation(String),
    /// Those of a schema.
    Schema(String),
    /// Those of the database.
    Database,
}

/// An index that is invalid, or on the table that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) oid: u32,
    /// Quoted, with its schema.
    pub(crate) name: String,
    pub(crate) valid: bool,
    /// Whether it has the name that the statement gives.
    pub(crate) named: bool,
    /// Whether its name, its table and what it is made of are such as the statement leaves them.
    pub(crate) fits: bool,
    /// Its table.
    table: u32,
}

impl Subject {
    /// Reads the statement; `None` if it is none of the two.
    pub(crate) fn of(statement: &str) -> Option<Self> {
        let words: Vec<&str> = words(statement).collect();
        let mut rest = words.as_slice();
        match eat(&mut rest, &["create", "unique", "index", "concurrently", "if", "not", "exists"]) {
            0 => reindexed(rest),
            _ => created(rest),
        }
    }

    /// The name of the relation as it is written, to be looked up on the search path.
    fn relation(&self) -> Option<&str> {
        match self {
            Self::Create { table, .. } => Some(table),
            Self::Relation(name) => Some(name),
            Self::Schema(_) | Self::Database => None,
        }
    }

    /// Whether an index whose name ends so, and which is made of these columns, can be of this statement.
    fn fits(&self, named: bool, bare: &str, made_of: &[String]) -> bool {
        let ends_with = |marks: &[&str]| {
            let bare = bare.trim_end_matches(|c: char| c.is_ascii_digit());
            marks.iter().any(|mark| bare.ends_with(mark))
        };
        match self {
            Self::Create { name: Some(_), .. } => named,
            Self::Create { name: None, columns, .. } => {
                let same = |(have, want): (&String, &Option<String>)| want.as_ref().is_none_or(|want| want == have);
                ends_with(&["_idx"]) && made_of.len() == columns.len() && made_of.iter().zip(columns).all(same)
            }
            _ => ends_with(&["_ccnew", "_ccold"]),
        }
    }
}

/// Skips these words where they stand, each at most once and in this order; how many.
fn eat(rest: &mut &[&str], words: &[&str]) -> usize {
    let mut eaten = 0;
    for word in words {
        if let Some((first, more)) = rest.split_first()
            && first.eq_ignore_ascii_case(word)
        {
            *rest = more;
            eaten += 1;
        }
    }
    eaten
}

/// `[name] ON [ONLY] table [USING method] (columns…)…`
fn created(mut rest: &[&str]) -> Option<Subject> {
    let name = match eat(&mut rest, &["on"]) {
        1 => None,
        _ => {
            let (name, more) = rest.split_first()?;
            rest = more;
            (eat(&mut rest, &["on"]) == 1).then_some(())?;
            Some(unquoted(name))
        }
    };
    eat(&mut rest, &["only"]);
    let table = qualified(&mut rest)?;
    if eat(&mut rest, &["using"]) == 1 {
        rest = rest.get(1..)?;
    }
    let mut columns = Vec::new();
    let mut depth = 0_usize;
    let mut piece: Vec<&str> = Vec::new();
    for word in rest {
        match (*word, depth) {
            ("(", 0) => depth = 1,
            (")" | ",", 1) => {
                columns.push(column(&piece));
                piece.clear();
                if *word == ")" {
                    return Some(Subject::Create { name, table, columns });
                }
            }
            (word, _) => {
                depth = depth + usize::from(word == "(") - usize::from(word == ")" && depth > 0);
                piece.push(word);
            }
        }
    }
    None
}

/// A column by itself; anything else is an expression.
fn column(piece: &[&str]) -> Option<String> {
    let (first, more) = piece.split_first()?;
    let is_name = first.starts_with(|c: char| c == '"' || c == '_' || c.is_alphabetic());
    (is_name && !more.first().is_some_and(|next| ["(", "."].contains(next))).then(|| unquoted(first))
}

/// `REINDEX [(options)] what [CONCURRENTLY] [name]`
fn reindexed(mut rest: &[&str]) -> Option<Subject> {
    (eat(&mut rest, &["reindex"]) == 1).then_some(())?;
    if eat(&mut rest, &["("]) == 1 {
        let close = rest.iter().position(|word| *word == ")")?;
        rest = rest.get(close + 1..)?;
    }
    let (what, mut rest) = rest.split_first()?;
    eat(&mut rest, &["concurrently"]);
    match what.to_ascii_lowercase().as_str() {
        "index" | "table" => qualified(&mut rest).map(Subject::Relation),
        "schema" => rest.first().map(|name| Subject::Schema(unquoted(name))),
        "database" | "system" => Some(Subject::Database),
        _ => None,
    }
}

/// A name with what stands before it, as it is written.
fn qualified(rest: &mut &[&str]) -> Option<String> {
    let (first, more) = rest.split_first()?;
    let mut name = (*first).to_owned();
    *rest = more;
    while let [".", part, more @ ..] = *rest {
        name.push('.');
        name.push_str(part);
        *rest = more;
    }
    Some(name)
}

/// The name that PostgreSQL makes of one that was written, but for its length: only what is ASCII is made small.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    }
}

/// Which relation the statement is about: its OID, 0 for none. Asked in the session that runs the statement, whose search
/// path counts.
pub(crate) async fn relation(client: &Client, subject: &Subject) -> Result<u32, PgError> {
    const SQL: &str = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
    let Some(name) = subject.relation() else { return Ok(0) };
    let rows = client.query("look for the statement's table", SQL, &[name]).await?;
    Ok(rows.first().and_then(|row| row.get::<_, Option<u32>>(0)).unwrap_or(0))
}

/// SQL for the indexes that are invalid, and all that are on the table `$1`, an OID. `$2` is the index's name, which
/// PostgreSQL itself cuts to what fits, `$3` the schema, and `$4` whether the statement is about all of the database. The
/// last column is whether it is about the index's table: about `$1` or a partition of it or the table of one, or about the
/// schema; a table stands for its TOAST table as well.
pub(crate) const LOOK: &str = "WITH RECURSIVE tree AS ( \
     SELECT $1::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid \
       JOIN pg_class p ON p.oid = i.inhrelid AND p.relispartition), \
   about AS (SELECT oid FROM tree UNION SELECT indrelid FROM pg_index WHERE indexrelid IN (SELECT oid FROM tree)) \
   SELECT i.indexrelid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relname::text, i.indisvalid, \
     c.relname = $2::name, i.indrelid, \
     ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts \
       ORDER BY a.attnum), \
     coalesce(m.oid, t.oid) IN (SELECT oid FROM about) OR t.oid IN (SELECT oid FROM about) \
       OR (SELECT nspname FROM pg_namespace WHERE oid = coalesce(m.relnamespace, t.relnamespace)) = $3::name OR $4::boolean \
   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_class t ON t.oid = i.indrelid LEFT JOIN pg_class m ON m.reltoastrelid = t.oid \
   WHERE c.relkind = 'i' AND (NOT i.indisvalid OR i.indrelid = $1::oid) ORDER BY 2";

/// The parameters of [`LOOK`] behind the relation.
pub(crate) fn names(subject: &Subject) -> [&str; 3] {
    match subject {
        Subject::Create { name, .. } => [name.as_deref().unwrap_or_default(), "", "false"],
        Subject::Relation(_) => ["", "", "false"],
        Subject::Schema(name) => ["", name, "false"],
        Subject::Database => ["", "", "true"],
    }
}

/// A row of [`LOOK`] for this relation.
pub(crate) fn read(subject: &Subject, relation: u32, row: &tokio_postgres::Row) -> Index {
    let (named, table, made_of) = (row.get(4), row.get::<_, u32>(5), row.get::<_, Vec<String>>(6));
    // A new index is the table's own, and none of a partition's.
    let about = match subject {
        Subject::Create { .. } => table == relation,
        _ => row.get(7),
    };
    let fits = about && subject.fits(named, row.get(2), &made_of);
    Index { oid: row.get(0), name: row.get(1), valid: row.get(3), named: named && about, fits, table }
}

/// SQL for who builds indexes on one of the tables `$1` now, or changes it otherwise: process ids.
pub(crate) const AT_WORK: &str = "SELECT DISTINCT pid::text FROM pg_locks WHERE locktype = 'relation' AND granted \
     AND mode = 'ShareUpdateExclusiveLock' AND pid <> pg_backend_pid() \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND relation = ANY ($1::oid[])";

/// The tables of these, as [`AT_WORK`] wants them.
pub(crate) fn tables(indexes: &[Index]) -> String {
    let tables: Vec<String> = indexes.iter().map(|index| index.table.to_string()).collect();
    format!("{{{}}}", tables.join(","))
}

/// Removes one; `name` comes from [`read`] and is quoted.
pub(crate) async fn drop_index(client: &Client, name: &str) -> Result<(), PgError> {
    // One of a TOAST table cannot be dropped concurrently.
    let concurrently = if name.starts_with("pg_toast.") { "" } else { "CONCURRENTLY" };
    client.batch("drop the invalid index", &format!("DROP INDEX {concurrently} IF EXISTS {name}")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: Option<&str>, table: &str, columns: &[Option<&str>]) -> Option<Subject> {
        let columns = columns.iter().map(|column| column.map(str::to_owned)).collect();
        Some(Subject::Create { name: name.map(str::to_owned), table: table.to_owned(), columns })
    }

    #[test]
    fn what_a_statement_is_about_is_found() {
        assert_eq!(
            Subject::of(
                "CREATE INDEX CONCURRENTLY IdxÄ ON t (A, lower(b), (c + 1) DESC, \"D\"\"d\" text_pattern_ops, s.f(x, y));"
            ),
            create(Some("idxÄ"), "t", &[Some("a"), None, None, Some("D\"d"), None])
        );
        assert_eq!(
            Subject::of(
                "create unique index /* x */ concurrently if not exists \"I\"\"x\" on only \"S\".t using btree (a) include (b) where (a > 1)"
            ),
            create(Some("I\"x"), "\"S\".t", &[Some("a")])
        );
        assert_eq!(Subject::of("CREATE INDEX CONCURRENTLY ON a.t (a)"), create(None, "a.t", &[Some("a")]));
        let about = |name: &str| Some(Subject::Relation(name.to_owned()));
        assert_eq!(Subject::of("REINDEX INDEX CONCURRENTLY s.\"I\""), about("s.\"I\""));
        assert_eq!(Subject::of("reindex (verbose, concurrently) table t;"), about("t"));
        assert_eq!(Subject::of("REINDEX SCHEMA CONCURRENTLY S"), Some(Subject::Schema("s".to_owned())));
        assert_eq!(Subject::of("REINDEX DATABASE CONCURRENTLY"), Some(Subject::Database));
        for none in ["VACUUM t", "REINDEX", "CREATE INDEX CONCURRENTLY", "CREATE INDEX CONCURRENTLY ON t", ""] {
            assert_eq!(Subject::of(none), None, "{none}");
        }
    }

    #[test]
    fn an_index_is_taken_for_a_statements_own_by_its_shape() {
        let of = |sql: &str| Subject::of(sql).expect(sql);
        let unnamed = of("CREATE INDEX CONCURRENTLY ON t (a, lower(b))");
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(unnamed.fits(false, "t_a_lower_idx12", &columns(&["a", "lower"])));
        assert!(!unnamed.fits(false, "t_a_lower_idx", &columns(&["b", "lower"])));
        assert!(!unnamed.fits(false, "t_a_lower_idx", &columns(&["a"])));
        assert!(!unnamed.fits(false, "mine", &columns(&["a", "lower"])));
        assert!(of("CREATE INDEX CONCURRENTLY i ON t (a)").fits(true, "i", &columns(&["x"])));
        assert!(!of("CREATE INDEX CONCURRENTLY i ON t (a)").fits(false, "t_a_idx", &columns(&["a"])));
        let again = of("REINDEX TABLE CONCURRENTLY t");
        assert!(again.fits(false, "t_a_idx_ccnew1", &[]) && again.fits(false, "x_ccold", &[]));
        assert!(!again.fits(false, "t_a_idx", &[]));
    }
}
