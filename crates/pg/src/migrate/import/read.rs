//! Other tools' tables.

use super::Tool;
use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;
use std::collections::BTreeMap;

/// What a table says of one migration, in the same words for every tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Its version; none for what is run whenever it changes.
    pub version: Option<String>,
    /// What it is called; may be empty.
    pub description: String,
    /// When it was applied, as PostgreSQL writes it.
    pub applied_at: Option<String>,
    /// How long it took.
    pub took_ms: Option<i64>,
    /// What the tool keeps to see a change.
    pub checksum: Option<String>,
    /// Whether it went well.
    pub success: bool,
    /// Whether it stands for all lower versions too.
    pub and_before: bool,
}

impl HistoryRow {
    /// Version and name, for people.
    pub(super) fn label(&self) -> String {
        match (&self.version, self.description.is_empty()) {
            (Some(version), true) => version.clone(),
            (Some(version), false) => format!("{version} ({})", self.description),
            (None, _) => format!("'{}'", self.description),
        }
    }
}

/// Finds the tool's table, whatever schema it is in. `named` is `table` or `schema.table`, where somebody chose one.
///
/// Gives schema and name. [`PgError::Missing`] when there is none, or more than one and nobody chose.
pub async fn find_table(client: &Client, tool: Tool, named: Option<&str>) -> Result<(String, String), PgError> {
    let (schema, table) = match named {
        Some(named) => named.split_once('.').map_or(("", named), |(schema, table)| (schema, table)),
        None => ("", tool.table()),
    };
    // dbmate and golang-migrate share a name; a column tells them apart.
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relname = $1 AND ($2 = '' OR n.nspname = $2) AND c.relkind IN ('r', 'p') \
               AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
               AND ($3 = '' OR $3::boolean = EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
               AND a.attname = 'dirty' AND NOT a.attisdropped)) ORDER BY 1";
    let dirty = match tool {
        Tool::Dbmate => "false",
        Tool::GolangMigrate => "true",
        Tool::Sqlx | Tool::Refinery | Tool::Flyway => "",
    };
    let rows = client.query("look for the other tool's table", sql, &[table, schema, dirty]).await?;
    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    match <[_; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(others) => {
            let schemas: Vec<&str> = others.iter().map(|(schema, _)| schema.as_str()).collect();
            let hint = if schemas.is_empty() {
                format!(" in this database; if {tool} uses another name here, give it with --table")
            } else {
                format!(" only once: it is in the schemas {}; choose with --table SCHEMA.TABLE", schemas.join(", "))
            };
            Err(PgError::Missing { kind: "table", name: table.to_owned(), hint })
        }
    }
}

/// Reads what was applied.
pub async fn read(client: &Client, tool: Tool, (schema, table): &(String, String)) -> Result<Vec<HistoryRow>, PgError> {
    let from = format!("{}.{}", identifier(schema)?, identifier(table)?);
    // Version, description, when, milliseconds, checksum, success, and before, kind.
    let sql = match tool {
        Tool::Sqlx => format!(
            "SELECT version::text, description, installed_on::text, (execution_time / 1000000)::text, \
             encode(checksum, 'hex'), success::text, 'false', '' FROM {from} ORDER BY version"
        ),
        Tool::Refinery => format!(
            "SELECT version::text, name::text, applied_on::timestamptz::text, NULL, checksum::text, 'true', 'false', '' \
             FROM {from} ORDER BY version"
        ),
        Tool::Flyway => format!(
            "SELECT version::text, description::text, installed_on::timestamptz::text, execution_time::text, \
             checksum::text, success::text, (type LIKE '%BASELINE%')::text, type::text FROM {from} ORDER BY installed_rank"
        ),
        Tool::Dbmate => {
            format!("SELECT version::text, '', NULL, NULL, NULL, 'true', 'false', '' FROM {from} ORDER BY version")
        }
        Tool::GolangMigrate => {
            format!("SELECT version::text, '', NULL, NULL, NULL, (NOT dirty)::text, 'true', '' FROM {from}")
        }
    };
    let rows = client.query("read the other tool's table", &sql, &[]).await?;
    let text = |row: &tokio_postgres::Row, index: usize| row.get::<_, Option<String>>(index);
    let rows = rows.iter().map(|row| {
        let history = HistoryRow {
            version: text(row, 0),
            description: text(row, 1).unwrap_or_default(),
            applied_at: text(row, 2),
            took_ms: text(row, 3).and_then(|digits| digits.parse().ok()),
            checksum: text(row, 4),
            success: text(row, 5).as_deref() == Some("true"),
            and_before: text(row, 6).as_deref() == Some("true"),
        };
        (history, text(row, 7).unwrap_or_default())
    });
    Ok(if tool == Tool::Flyway { last_word(rows) } else { rows.map(|(history, _)| history).collect() })
}

/// Flyway writes a row for everything that happens to a version: what was undone or deleted is not applied, and of what
/// ran several times the last counts.
fn last_word(rows: impl Iterator<Item = (HistoryRow, String)>) -> Vec<HistoryRow> {
    let mut last: BTreeMap<(Option<String>, String), HistoryRow> = BTreeMap::new();
    for (row, kind) in rows {
        let key = (row.version.clone(), if row.version.is_some() { String::new() } else { row.description.clone() });
        match kind.as_str() {
            // The note that Flyway made a schema: no file, no version.
            "SCHEMA" => {}
            kind if kind.starts_with("UNDO") || kind == "DELETE" => {
                last.remove(&key);
            }
            _ => {
                last.insert(key, row);
            }
        }
    }
    last.into_values().collect()
}
