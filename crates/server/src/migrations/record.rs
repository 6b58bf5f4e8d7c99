//! What rollouts have come to, as rows.

use crate::problem::Problem;
use pgdb_api::migrations::RolloutItem;
use rusqlite::{Connection, params};

/// Writes what became of one database, in the place of what an interrupted try has written.
pub(super) fn add(connection: &Connection, operation: i64, item: &RolloutItem) -> Result<(), Problem> {
    let text = serde_json::to_string(item).map_err(|error| Problem::internal(error.to_string()))?;
    let sql = "INSERT OR REPLACE INTO rollout_items (operation_seq, kind, name, item) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, params![operation, item.kind, item.name, text])?;
    Ok(())
}

/// What became of the databases of an operation, the template first, then previews, by name.
pub(super) fn items(connection: &Connection, operation: i64) -> Result<Vec<RolloutItem>, Problem> {
    let sql = "SELECT item FROM rollout_items WHERE operation_seq = ?1 \
               ORDER BY kind <> 'template', kind DESC, name";
    let mut statement = connection.prepare_cached(sql)?;
    let texts: Vec<String> = statement.query_map([operation], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let read = |text: &String| serde_json::from_str(text).map_err(|error| Problem::internal(error.to_string()));
    texts.iter().map(read).collect()
}
