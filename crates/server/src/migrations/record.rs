//! What rollouts have come to, as rows.

use crate::problem::Problem;
use pgdb_api::migrations::RolloutItem;
use rusqlite::{Connection, params};

/// Writes down that a database is begun, whose ledger's newest row is `newest`. Gives what that was at the first try, if an
/// earlier one was interrupted.
pub(super) fn begin(connection: &Connection, operation: i64, item: &RolloutItem, newest: i64) -> Result<i64, Problem> {
    let sql = "INSERT INTO rollout_items (operation_seq, kind, name, item, newest_before) VALUES (?1, ?2, ?3, '', ?4) \
               ON CONFLICT DO UPDATE SET newest_before = coalesce(newest_before, excluded.newest_before) \
               RETURNING newest_before";
    Ok(connection.query_row(sql, params![operation, item.kind, item.name, newest], |row| row.get(0))?)
}

/// Writes what became of one database.
pub(super) fn add(connection: &Connection, operation: i64, item: &RolloutItem) -> Result<(), Problem> {
    let text = serde_json::to_string(item).map_err(|error| Problem::internal(error.to_string()))?;
    let sql = "INSERT OR REPLACE INTO rollout_items (operation_seq, kind, name, item) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, params![operation, item.kind, item.name, text])?;
    Ok(())
}

/// What became of the databases of an operation that are done, the template first, then previews, by name.
pub(super) fn items(connection: &Connection, operation: i64) -> Result<Vec<RolloutItem>, Problem> {
    let sql = "SELECT item FROM rollout_items WHERE operation_seq = ?1 AND item <> '' \
               ORDER BY kind <> 'template', kind DESC, name";
    let mut statement = connection.prepare_cached(sql)?;
    let texts: Vec<String> = statement.query_map([operation], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let read = |text: &String| serde_json::from_str(text).map_err(|error| Problem::internal(error.to_string()));
    texts.iter().map(read).collect()
}
