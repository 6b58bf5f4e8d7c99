//! How much a finding matters on the database at hand: a lock on a table that is empty, small or not there yet stops
//! nobody.

use super::{Finding, Severity, own};
use crate::connect::Client;
use crate::error::PgError;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes from which on a table counts as one that statements take long for.
const BIG: i64 = 16 << 20;

/// What a statement that names `$1` has to read or write; with `alone` as `$2` without those below it.
///
/// A partitioned table has no bytes of its own, and neither has a view; how long a materialized view takes to compute is
/// told by what it reads.
const MEASURE: &str = "
    WITH RECURSIVE held (oid) AS (
        SELECT pg_catalog.to_regclass($1)::pg_catalog.oid
        UNION
        SELECT below.oid FROM held CROSS JOIN LATERAL (
            SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = held.oid AND $2 <> 'alone'
            UNION ALL
            SELECT used.refobjid FROM pg_catalog.pg_rewrite rule JOIN pg_catalog.pg_depend used
                ON used.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND used.objid = rule.oid
                AND used.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                WHERE rule.ev_class = held.oid AND rule.ev_type = '1'
        ) below (oid)
    )
    SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(oid))::pg_catalog.int8, pg_catalog.count(*) > 1,
        EXISTS (SELECT FROM pg_catalog.pg_constraint
            WHERE conrelid = pg_catalog.to_regclass($1) AND contype = 'c' AND convalidated)
    FROM held";

/// A relation of the database at hand.
struct Measured {
    /// Nothing when it is not there.
    bytes: Option<i64>,
    /// Whether that is not of it alone.
    has_more: bool,
    /// Whether its rows are known to keep a CHECK.
    is_checked: bool,
}

/// Lowers the findings about tables that are small or not there, and names the size of the others.
pub async fn weigh(client: &Client, findings: &mut [Finding]) -> Result<(), PgError> {
    let named = |one: &Finding| Some((one.relation.clone()?, one.alone));
    let names: BTreeSet<(String, bool)> =
        findings.iter().filter(|one| depends_on_size(one)).filter_map(named).collect();
    let mut known: BTreeMap<(String, bool), Measured> = BTreeMap::new();
    for (name, alone) in names {
        // The files' names are looked for where files look; nothing else here is.
        client.batch("begin to measure", "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT").await?;
        let which = if alone { "alone" } else { "all" };
        let measured = client.query("measure a table", MEASURE, &[&name, which]).await;
        client.batch("end measuring", "ROLLBACK").await?;
        // A name that is none makes `to_regclass` fail; then nothing is known, and nothing is lowered.
        let Some(row) = measured.ok().and_then(|rows| rows.into_iter().next()) else { continue };
        known.insert((name, alone), Measured { bytes: row.get(0), has_more: row.get(1), is_checked: row.get(2) });
    }
    for finding in findings.iter_mut().filter(|one| depends_on_size(one)) {
        if let Some(((name, _), measured)) = named(finding).and_then(|name| known.get_key_value(&name)) {
            tell(finding, name, measured);
        }
    }
    Ok(())
}

fn tell(finding: &mut Finding, name: &str, measured: &Measured) {
    let (takes, is) = match measured.has_more {
        true => (format!("{name} and what is under it take"), format!("{name} and what is under it are")),
        false => (format!("{name} takes"), format!("{name} is")),
    };
    let (lowered, said) = match measured.bytes {
        None => (true, format!("{is} not there yet.")),
        Some(bytes) if bytes < BIG => (true, format!("{is} small: {} kB.", bytes / 1024)),
        Some(bytes) if finding.rule == own::ATTACH_PARTITION_SCAN && measured.is_checked => {
            (true, format!("{takes} {} MB, but a CHECK may spare PostgreSQL the reading.", bytes >> 20))
        }
        Some(bytes) => (false, format!("{takes} {} MB.", bytes >> 20)),
    };
    if lowered {
        finding.severity = Severity::Note;
    }
    finding.message.push_str(&format!(" ({said})"));
}

/// Whether it is about the time that a lock is held, which grows with the table.
pub(super) fn depends_on_size(finding: &Finding) -> bool {
    let name = finding.rule.as_str();
    finding.severity == Severity::Error
        && (name.starts_with("adding-")
            || name.starts_with("require-concurrent-")
            || SLOW.contains(&name)
            || own::knows(name))
}

const SLOW: [&str; 3] = ["changing-column-type", "constraint-missing-not-valid", "disallowed-unique-constraint"];
