//! Definitions of templates as rows.

use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// How many tables are dumped and read at the same time, where nobody says.
pub const DEFAULT_JOBS: u32 = 2;

/// Which files a template holds, as digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Migrations and seed that it was built from, with nothing else in it.
    pub built_from: Option<String>,
    /// Migrations.
    pub migrated_to: Option<String>,
}

/// How one template is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionRecord {
    /// Our identifier.
    pub id: String,
    /// The server.
    pub target: String,
    /// The database.
    pub name: String,
    /// URL of what a refresh reads, sealed.
    pub source_url: Option<Vec<u8>>,
    /// URL of an administrator, sealed.
    pub admin_url: Option<Vec<u8>>,
    /// What a refresh reads, without the password.
    pub source: Option<String>,
    /// Tables whose rows are left out.
    pub exclude_table_data: Vec<String>,
    /// SQL that changes rows.
    pub mask: Option<String>,
    /// Queries that have to hold.
    pub checks: Vec<String>,
    /// How many tables at the same time.
    pub jobs: u32,
    /// Whether it is to stay as it is.
    pub locked: bool,
    /// Which files it holds.
    pub holds: Holds,
    /// When it was last refreshed or built.
    pub refreshed_at: Option<Timestamp>,
}

impl DefinitionRecord {
    /// One that says nothing yet.
    pub fn new(id: String, target: String, name: String) -> Self {
        Self {
            id,
            target,
            name,
            source_url: None,
            admin_url: None,
            source: None,
            exclude_table_data: Vec::new(),
            mask: None,
            checks: Vec::new(),
            jobs: DEFAULT_JOBS,
            locked: false,
            holds: Holds::default(),
            refreshed_at: None,
        }
    }
}

/// The subject of a template in operations and the audit log.
pub fn subject(target: &str, name: &str) -> String {
    format!("template/{target}/{name}")
}

const COLUMNS: &str = "id, target, name, source_url, admin_url, source, exclude_table_data, mask, checks, jobs, locked, \
                       built_from, migrated_to, refreshed_at";

/// One definition.
pub fn find(connection: &Connection, target: &str, name: &str) -> Result<Option<DefinitionRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM template_definitions WHERE target = ?1 AND name = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([target, name], read).optional()?)
}

/// Every definition, by server and name.
pub fn all(connection: &Connection) -> Result<Vec<DefinitionRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM template_definitions ORDER BY target, name");
    Ok(connection.prepare_cached(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The names of the templates on a server that are locked, in their order.
pub fn locked_on(connection: &Connection, target: &str) -> Result<Vec<String>, Problem> {
    let sql = "SELECT name FROM template_definitions WHERE target = ?1 AND locked ORDER BY name";
    Ok(connection.prepare_cached(sql)?.query_map([target], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Writes a definition, in the place of one with its id.
pub fn put(connection: &Connection, definition: &DefinitionRecord) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO template_definitions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14) \
         ON CONFLICT (id) DO UPDATE SET source_url = excluded.source_url, admin_url = excluded.admin_url, \
         source = excluded.source, exclude_table_data = excluded.exclude_table_data, mask = excluded.mask, \
         checks = excluded.checks, jobs = excluded.jobs, locked = excluded.locked, built_from = excluded.built_from, \
         migrated_to = excluded.migrated_to, refreshed_at = excluded.refreshed_at"
    );
    connection.execute(
        &sql,
        params![
            definition.id,
            definition.target,
            definition.name,
            definition.source_url,
            definition.admin_url,
            definition.source,
            list(&definition.exclude_table_data),
            definition.mask,
            list(&definition.checks),
            definition.jobs,
            definition.locked,
            definition.holds.built_from,
            definition.holds.migrated_to,
            definition.refreshed_at.map(micros),
        ],
    )?;
    Ok(())
}

/// Notes that the template was made anew, and which files it holds.
pub fn made_anew(connection: &Connection, id: &str, at: Timestamp, holds: &Holds) -> Result<(), Problem> {
    let sql = "UPDATE template_definitions SET refreshed_at = ?2, built_from = ?3, migrated_to = ?4 WHERE id = ?1";
    connection.execute(sql, params![id, micros(at), holds.built_from, holds.migrated_to])?;
    Ok(())
}

/// Notes that the template was found to hold these migrations.
pub fn found_migrated(connection: &Connection, id: &str, migrated_to: &str) -> Result<(), Problem> {
    connection.execute("UPDATE template_definitions SET migrated_to = ?2 WHERE id = ?1", [id, migrated_to])?;
    Ok(())
}

/// Notes that nobody knows which files the template holds.
pub fn forget_files(connection: &Connection, target: &str, name: &str) -> Result<(), Problem> {
    let sql = "UPDATE template_definitions SET built_from = NULL, migrated_to = NULL WHERE target = ?1 AND name = ?2";
    connection.execute(sql, [target, name])?;
    Ok(())
}

/// Forgets a definition.
pub fn delete(connection: &Connection, target: &str, name: &str) -> Result<(), Problem> {
    connection.execute("DELETE FROM template_definitions WHERE target = ?1 AND name = ?2", [target, name])?;
    Ok(())
}

fn list(items: &[String]) -> String {
    serde_json::Value::from(items.to_vec()).to_string()
}

fn read(row: &Row<'_>) -> rusqlite::Result<DefinitionRecord> {
    let items = |column: &str| -> rusqlite::Result<Vec<String>> {
        Ok(serde_json::from_str(&row.get::<_, String>(column)?).unwrap_or_default())
    };
    Ok(DefinitionRecord {
        id: row.get("id")?,
        target: row.get("target")?,
        name: row.get("name")?,
        source_url: row.get("source_url")?,
        admin_url: row.get("admin_url")?,
        source: row.get("source")?,
        exclude_table_data: items("exclude_table_data")?,
        mask: row.get("mask")?,
        checks: items("checks")?,
        jobs: row.get("jobs")?,
        locked: row.get("locked")?,
        holds: Holds { built_from: row.get("built_from")?, migrated_to: row.get("migrated_to")? },
        refreshed_at: row.get::<_, Option<i64>>("refreshed_at")?.map(from_micros),
    })
}
