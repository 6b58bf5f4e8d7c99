//! How much a finding matters on the database at hand: a lock on a table that is empty, small or not there yet stops
//! nobody.

use super::{Finding, Severity};
use crate::connect::Client;
use crate::error::PgError;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes from which on a table counts as one that statements take long for.
const BIG: i64 = 16 << 20;

/// Lowers the findings about tables that are small or not there, and names the size of the others.
pub async fn weigh(client: &Client, findings: &mut [Finding]) -> Result<(), PgError> {
    let names: BTreeSet<String> =
        findings.iter().filter(|one| depends_on_size(one)).filter_map(|one| one.relation.clone()).collect();
    let mut sizes: BTreeMap<String, Option<i64>> = BTreeMap::new();
    for name in names {
        // A name that is none makes `to_regclass` fail; then nothing is known, and nothing is lowered.
        let sql = "SELECT pg_catalog.pg_total_relation_size(pg_catalog.to_regclass($1))";
        // The files' names are looked for where files look; nothing else here is.
        client.batch("begin to measure", "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT").await?;
        let measured = client.query("measure a table", sql, &[&name]).await;
        client.batch("end measuring", "ROLLBACK").await?;
        let Ok(rows) = measured else { continue };
        sizes.insert(name, rows.first().and_then(|row| row.get(0)));
    }
    for finding in findings.iter_mut().filter(|one| depends_on_size(one)) {
        let Some((name, size)) = finding.relation.as_ref().and_then(|name| sizes.get_key_value(name)) else { continue };
        match size {
            None => {
                finding.severity = Severity::Note;
                finding.message.push_str(&format!(" ({name} is not there yet.)"));
            }
            Some(bytes) if *bytes < BIG => {
                finding.severity = Severity::Note;
                finding.message.push_str(&format!(" ({name} is small: {} kB.)", bytes / 1024));
            }
            Some(bytes) => finding.message.push_str(&format!(" ({name} takes {} MB.)", bytes >> 20)),
        }
    }
    Ok(())
}

/// Whether it is about the time that a lock is held, which grows with the table.
fn depends_on_size(finding: &Finding) -> bool {
    let name = finding.rule.as_str();
    finding.severity == Severity::Error
        && (name.starts_with("adding-") || name.starts_with("require-concurrent-") || SLOW.contains(&name))
}

const SLOW: [&str; 4] =
    ["changing-column-type", "constraint-missing-not-valid", "disallowed-unique-constraint", "prefer-repack"];
