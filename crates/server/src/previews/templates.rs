//! Templates as rows: what was found out about a database that previews are cloned from.

use super::record;
use super::server::EXTERNAL;
use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use pgdb_api::instances::Holds;
use pgdb_core::copying::{Copied, Timings};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// One template of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TemplateRecord {
    /// The server.
    pub target: String,
    /// The database.
    pub name: String,
    /// PostgreSQL's number of the database.
    pub oid: u32,
    /// The role that its objects belong to.
    pub holder: String,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// How it is copied: the quickest way so far.
    pub strategy: String,
    /// What copies of it took.
    pub timings: Timings,
    /// Counts up with every change.
    pub generation: u64,
    /// The highest number that it was asked for.
    pub highest: u64,
    /// When it was last prepared.
    pub prepared_at: Timestamp,
}

const COLUMNS: &str = "target, name, oid, holder, size_bytes, strategy, timings, generation, highest, prepared_at";

/// One template.
pub fn find(connection: &Connection, target: &str, name: &str) -> Result<Option<TemplateRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM preview_templates WHERE target = ?1 AND name = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([target, name], read).optional()?)
}

/// Every template.
pub fn all(connection: &Connection) -> Result<Vec<TemplateRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM preview_templates ORDER BY target, name");
    Ok(connection.prepare(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<TemplateRecord> {
    Ok(TemplateRecord {
        target: row.get("target")?,
        name: row.get("name")?,
        oid: row.get("oid")?,
        holder: row.get("holder")?,
        size_bytes: row.get("size_bytes")?,
        strategy: row.get("strategy")?,
        timings: serde_json::from_str(&row.get::<_, String>("timings")?).unwrap_or_default(),
        generation: row.get("generation")?,
        highest: row.get("highest")?,
        prepared_at: from_micros(row.get("prepared_at")?),
    })
}

/// The servers and names of all templates.
pub fn names(connection: &Connection) -> Result<Vec<(String, String)>, Problem> {
    let sql = "SELECT target, name FROM preview_templates";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(connection.prepare_cached(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Writes what was found out about a template; its generation is the next one.
pub fn put(connection: &Connection, template: &TemplateRecord) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO preview_templates ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '{{}}', 1, ?7, ?8) \
         ON CONFLICT (target, name) DO UPDATE SET oid = excluded.oid, holder = excluded.holder, \
         size_bytes = excluded.size_bytes, strategy = excluded.strategy, timings = excluded.timings, \
         generation = generation + 1, prepared_at = excluded.prepared_at"
    );
    connection.execute(
        &sql,
        params![
            template.target,
            template.name,
            template.oid,
            template.holder,
            template.size_bytes,
            template.strategy,
            template.highest,
            micros(template.prepared_at)
        ],
    )?;
    Ok(())
}

/// Takes a copy of a template into account: from now on it is copied in the way that was the quickest.
pub fn note_copy(connection: &Connection, target: &str, name: &str, copied: Copied) -> Result<(), Problem> {
    let Some(TemplateRecord { mut timings, strategy, .. }) = find(connection, target, name)? else { return Ok(()) };
    timings.add(copied);
    let best = timings.best().map_or(strategy, |best| best.as_str().to_owned());
    let text = serde_json::to_string(&timings).map_err(|error| Problem::internal(error.to_string()))?;
    let sql = "UPDATE preview_templates SET timings = ?3, strategy = ?4 WHERE target = ?1 AND name = ?2";
    connection.prepare_cached(sql)?.execute(params![target, name, text, best])?;
    Ok(())
}

/// Forgets what was found out about a template.
pub fn forget(connection: &Connection, target: &str, name: &str) -> Result<(), Problem> {
    connection.execute("DELETE FROM preview_templates WHERE target = ?1 AND name = ?2", [target, name])?;
    Ok(())
}

/// The previews and templates on a server, these whether they were cloned or only defined. None if there is nothing.
pub fn held(connection: &Connection, target: &str) -> Result<Option<Holds>, Problem> {
    let sql = "SELECT name FROM preview_templates WHERE target = ?1 \
               UNION SELECT name FROM template_definitions WHERE target = ?1 ORDER BY name";
    let templates = connection.prepare_cached(sql)?.query_map([target], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let holds = Holds { previews: record::on(connection, target)?, templates };
    Ok((holds != Holds::default()).then_some(holds))
}

/// The tables with rows of what is on a server.
const ON_A_SERVER: [&str; 4] = ["previews", "preview_pool", "preview_templates", "template_definitions"];

/// Servers that something is known of, and that were instances which are gone. A destroy forgets its own; such rows are
/// those of an operation that it has overtaken.
pub fn gone_targets(connection: &Connection) -> Result<Vec<String>, Problem> {
    let all = ON_A_SERVER.map(|table| format!("SELECT target FROM {table}")).join(" UNION ");
    let sql = format!("SELECT target FROM ({all}) WHERE target <> ?1 AND target NOT IN (SELECT id FROM instances)");
    Ok(connection.prepare_cached(&sql)?.query_map([EXTERNAL], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Forgets everything about a server.
pub fn forget_target(connection: &Connection, target: &str) -> Result<(), Problem> {
    for table in ON_A_SERVER {
        connection.execute(&format!("DELETE FROM {table} WHERE target = ?1"), [target])?;
    }
    connection.execute("DELETE FROM preview_targets WHERE key = ?1", [target])?;
    Ok(())
}

/// Notes a number that a template was asked for.
pub fn saw_number(connection: &Connection, target: &str, name: &str, number: u64) -> Result<(), Problem> {
    let sql = "UPDATE preview_templates SET highest = ?3 WHERE target = ?1 AND name = ?2 AND highest < ?3";
    connection.prepare_cached(sql)?.execute(params![target, name, number])?;
    Ok(())
}

/// The sealed secret that a server's passwords are derived from.
pub fn secret(connection: &Connection, target: &str) -> Result<Option<Vec<u8>>, Problem> {
    let sql = "SELECT secret FROM preview_targets WHERE key = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([target], |row| row.get(0)).optional()?.flatten())
}

/// Keeps a sealed secret unless there is one; gives back the one that is kept.
pub fn keep_secret(connection: &Connection, target: &str, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
    let sql = "INSERT INTO preview_targets (key, secret) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
    connection.execute(sql, params![target, sealed])?;
    secret(connection, target)?.ok_or_else(|| Problem::internal(format!("preview_targets has no secret of {target}")))
}
