//! How much a finding matters on the database at hand: a lock on a table that is empty, small or not there yet stops
//! nobody.

use super::{Finding, Severity};
use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;
use std::collections::BTreeMap;

/// Bytes from which on a table counts as one that statements take long for.
const BIG: i64 = 16 << 20;

/// What the database is asked about the table of a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ask {
    pub(super) grows: Grows,
    pub(super) scope: Scope,
    pub(super) check: Check,
}

/// What a finding matters more with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grows {
    /// Nothing: it is as bad on every table.
    #[default]
    No,
    /// The bytes of the table: it is about the time that a lock is held.
    Size,
    /// The first row: what it finds fails on every table that is not empty.
    Rows,
}

/// What counts with the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The table and what is below it.
    #[default]
    All,
    /// The table without its partitions and children.
    Alone,
    /// The name is an index's: its table and what is below that.
    Indexed,
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Alone => "alone",
            Self::Indexed => "indexed",
        }
    }
}

/// The valid CHECK by which PostgreSQL knows what it would else read all rows for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// There is none that would help.
    #[default]
    No,
    /// One of the columns of this table's partition key.
    OfKey(String),
    /// `COLUMN IS NOT NULL`, and nothing else.
    NotNull(String),
}

/// What a statement that names `$1` has to read or write; `$2` is the scope's word. With it whether there is a CHECK that
/// spares PostgreSQL the reading: of the partition key of `$3`, or of the column `$4`.
///
/// A partitioned table has no bytes of its own, and neither has a view; how long a materialized view takes to compute is
/// told by what it reads. A part of a key that is an expression has no column, which no CHECK is known to cover.
const MEASURE: &str = "
    WITH RECURSIVE named (oid) AS (
        SELECT coalesce((SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid = name.oid AND $2 = 'indexed'), name.oid)
        FROM (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid) name (oid)
    ), held (oid) AS (
        SELECT oid FROM named
        UNION
        SELECT below.oid FROM held CROSS JOIN LATERAL (
            SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = held.oid AND $2 <> 'alone'
            UNION ALL
            SELECT used.refobjid FROM pg_catalog.pg_rewrite rule JOIN pg_catalog.pg_depend used
                ON used.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND used.objid = rule.oid
                AND used.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                WHERE rule.ev_class = held.oid AND rule.ev_type = '1'
        ) below (oid)
    ), checks AS (
        SELECT con.* FROM pg_catalog.pg_constraint con JOIN named ON con.conrelid = named.oid
        WHERE con.contype = 'c' AND con.convalidated
    )
    SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(oid))::pg_catalog.int8, pg_catalog.count(*) > 1,
        EXISTS (SELECT FROM checks, pg_catalog.pg_partitioned_table parent
            WHERE parent.partrelid = pg_catalog.to_regclass(nullif($3, '')) AND NOT EXISTS (
                SELECT FROM pg_catalog.unnest(parent.partattrs::pg_catalog.int2[]) key (number) WHERE NOT EXISTS (
                    SELECT FROM pg_catalog.pg_attribute above JOIN pg_catalog.pg_attribute own
                        ON own.attrelid = checks.conrelid AND own.attname = above.attname
                    WHERE above.attrelid = parent.partrelid AND above.attnum = key.number
                        AND own.attnum = ANY (checks.conkey))))
        OR EXISTS (SELECT FROM checks WHERE NOT connoinherit
            AND pg_catalog.pg_get_constraintdef(oid) = pg_catalog.format('CHECK ((%I IS NOT NULL))', $4)),
        (SELECT nspname FROM named JOIN pg_catalog.pg_class ON pg_class.oid = named.oid
            JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace),
        (SELECT relname FROM named JOIN pg_catalog.pg_class ON pg_class.oid = named.oid)
    FROM held";

/// The files' names are looked for where files look. A table that someone has locked is not waited for, and rows that a
/// policy hides are no reason to take a table for empty.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT; SET LOCAL lock_timeout = '2s'; \
                     SET LOCAL row_security = off";

/// A relation of the database at hand.
struct Measured {
    /// Nothing when it is not there.
    bytes: Option<i64>,
    /// Whether that is not of it alone.
    has_more: bool,
    /// Whether its rows are known to keep the CHECK that was asked for.
    is_checked: bool,
    /// Whether it has a row; known only where that was asked.
    has_rows: bool,
}

/// Lowers the findings about tables that are small or not there, and names the size of the others.
pub async fn weigh(client: &Client, findings: &mut [Finding]) -> Result<(), PgError> {
    let mut known: BTreeMap<(String, Ask), Option<Measured>> = BTreeMap::new();
    for finding in findings.iter_mut().filter(|one| one.ask.grows != Grows::No) {
        let Some(name) = finding.relation.clone() else { continue };
        let asked = (name, finding.ask.clone());
        if !known.contains_key(&asked) {
            client.batch("begin to measure", BEGIN).await?;
            // A name that is none makes `to_regclass` fail, a lock is not waited for: then nothing is known.
            let measured = measure(client, &asked.0, &asked.1).await.ok().flatten();
            client.batch("end measuring", "ROLLBACK").await?;
            known.insert(asked.clone(), measured);
        }
        match known.get(&asked) {
            Some(Some(measured)) => tell(finding, &asked.0, measured),
            _ => add(finding, &format!("{} could not be measured.", asked.0)),
        }
    }
    Ok(())
}

async fn measure(client: &Client, name: &str, ask: &Ask) -> Result<Option<Measured>, PgError> {
    let (parent, column) = match &ask.check {
        Check::No => ("", ""),
        Check::OfKey(parent) => (parent.as_str(), ""),
        Check::NotNull(column) => ("", column.as_str()),
    };
    let rows = client.query("measure a table", MEASURE, &[name, ask.scope.word(), parent, column]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut measured = Measured { bytes: row.get(0), has_more: row.get(1), is_checked: row.get(2), has_rows: false };
    if let (Grows::Rows, Some(schema), Some(table)) = (ask.grows, row.get(3), row.get(4)) {
        let sql = format!("SELECT EXISTS (SELECT FROM {}.{})", identifier(schema)?, identifier(table)?);
        let rows = client.query("look for a row", &sql, &[]).await?;
        measured.has_rows = rows.first().is_some_and(|row| row.get(0));
    }
    Ok(Some(measured))
}

fn tell(finding: &mut Finding, name: &str, measured: &Measured) {
    let Some(bytes) = measured.bytes else {
        return lower(finding, &format!("{name} is not there yet."));
    };
    let name = match finding.ask.scope {
        Scope::Indexed => format!("the table of {name}"),
        Scope::All | Scope::Alone => name.to_owned(),
    };
    let (takes, is) = match measured.has_more {
        true => (format!("{name} and what is under it take"), format!("{name} and what is under it are")),
        false => (format!("{name} takes"), format!("{name} is")),
    };
    let takes = format!("{takes} {} MB", bytes >> 20);
    match &finding.ask.check {
        _ if finding.ask.grows == Grows::Rows && measured.has_rows => add(finding, &format!("{name} has rows.")),
        _ if finding.ask.grows == Grows::Rows => lower(finding, &format!("{name} has no row.")),
        _ if bytes < BIG => lower(finding, &format!("{is} small: {} kB.", bytes / 1024)),
        Check::OfKey(_) if measured.is_checked => {
            lower(finding, &format!("{takes}, but a CHECK may spare PostgreSQL the reading."));
        }
        Check::NotNull(_) if measured.is_checked => {
            lower(finding, &format!("{takes}, but its CHECK spares PostgreSQL the reading."));
        }
        _ => add(finding, &format!("{takes}.")),
    }
}

fn lower(finding: &mut Finding, why: &str) {
    finding.severity = Severity::Note;
    add(finding, why);
}

fn add(finding: &mut Finding, what: &str) {
    finding.message.push_str(&format!(" ({what})"));
}
