//! Forgetting operations that ended long ago.

use super::engine::Shared;
use crate::problem::Problem;
use crate::store::rows::micros;
use rusqlite::params;

/// Rows removed in one transaction, so that nobody waits long for the writer.
const BATCH: usize = 500;

/// Removes ended operations that are too old or too many. Returns how many.
pub(super) async fn forget_old(shared: &Shared) -> Result<usize, Problem> {
    let keep_for = jiff::SignedDuration::try_from(shared.config.keep_for).unwrap_or(jiff::SignedDuration::MAX);
    let oldest = shared.clock.now().checked_sub(keep_for).map_or(i64::MIN, micros);
    let keep_at_most = i64::try_from(shared.config.keep_at_most).unwrap_or(i64::MAX);
    let mut forgotten = 0;
    loop {
        let removed = shared
            .store
            .write(move |connection| {
                let last: i64 =
                    connection.query_row("SELECT coalesce(max(seq), 0) FROM operations", [], |row| row.get(0))?;
                let surplus = last.saturating_sub(keep_at_most);
                Ok(connection.execute(
                    "DELETE FROM operations WHERE seq IN (SELECT seq FROM operations WHERE finished_at < ?1 \
                     UNION SELECT seq FROM operations WHERE seq <= ?2 AND finished_at IS NOT NULL LIMIT ?3)",
                    params![oldest, surplus, BATCH],
                )?)
            })
            .await?;
        forgotten += removed;
        if removed < BATCH {
            return Ok(forgotten);
        }
    }
}
