//! What is true of work whose transaction and whose row of the ledger belong to two sessions.
//!
//! Before the files' session commits, the ledger's writes down which transaction that is. What became of it PostgreSQL
//! itself says (`pg_xact_status`), right afterwards or after whatever crash: the number is in the log of the server
//! before the commit can be, so there is no commit that the ledger does not know of.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::attempt::Noted;
use crate::migrate::error::MigrateError;
use crate::migrate::held::{held, held_as_json};
use crate::migrate::ledger;
use crate::migrate::lock;
use crate::migrate::report::{Event, Listener};
use crate::migrate::session::Session;
use crate::migrate::setup::Setup;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::ledger::Progress;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Asks in which transaction the files' session is. Nothing in it is looked for on the search path: an operator could
/// be somebody's.
pub(crate) const WHICH: &str = "SELECT pg_catalog.pg_current_xact_id()";

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What the ledger keeps of a transaction: its number, `$1`, and the server that counts so. A dump of the database is read
/// back on a server where the number means another transaction.
const DOING: &str =
    "jsonb_build_object('xid', $1, 'system', (SELECT system_identifier::text FROM pg_control_system()))";

/// Picks the locks `l` of the session whose transaction is the parameter `xid`.
pub(crate) fn holder(xid: &str) -> String {
    format!(
        "l.pid = (SELECT x.pid FROM pg_catalog.pg_locks x WHERE x.locktype = 'transactionid' AND x.granted \
         AND x.mode = 'ExclusiveLock' AND x.transactionid = {xid}::pg_catalog.xid8::pg_catalog.xid)"
    )
}

/// A row to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRow<'a> {
    pub(crate) key: &'a str,
    pub(crate) checksum: Checksum,
    pub(crate) version: &'a str,
    /// Milliseconds until now.
    pub(crate) took_ms: u64,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    /// Not yet known: the server is still at it.
    Open,
    /// So old that the server has forgotten it, or another server's.
    Unknown,
}

/// Commits what the files' session has done in its transaction `xid`, with the file's row, of which it tells.
///
/// After an error the transaction may still be open, and is to be rolled back.
pub(crate) async fn commit_file(session: &Session, row: NewRow<'_>, xid: &str) -> Result<Noted, PgError> {
    let keeper = session.keeper();
    // What the transaction itself made is not seen from here, and nobody can wait for it.
    let sql = format!(
        "INSERT INTO pgdb.migrations (key, sha256, outcome, took_ms, version, applied_by, locks, doing) \
         SELECT $2, $3, 'unfinished', $4::bigint, $5, $6, {held}, {DOING} RETURNING id, locks::text",
        held = held_as_json(&held(&holder("$1"), "true"), "$4::bigint"),
    );
    let took = row.took_ms.to_string();
    let params = [xid, row.key, &row.checksum.hex(), &took, row.version, session.user()];
    let rows = keeper.query("write the ledger", &sql, &params).await?;
    let (id, locks) = rows.first().map_or((0_i64, Vec::new()), |row| (row.get(0), ledger::locks(row.get(1))));
    let committed = session.client.batch("commit", &format!("COMMIT; {}", Setup::LOOSE_BACK)).await;
    match ended(keeper, xid).await? {
        Fate::Committed => {
            let done = format!("UPDATE pgdb.migrations SET outcome = 'applied', doing = NULL WHERE id = {id}");
            keeper.batch("write the ledger", &done).await.map(|()| Noted { id: Some(id), locks, took_ms: None })
        }
        Fate::Aborted => {
            keeper.batch("write the ledger", &format!("DELETE FROM pgdb.migrations WHERE id = {id}")).await?;
            Err(committed.err().unwrap_or(PgError::TransactionEnded))
        }
        // The row stays, and the next run asks again.
        Fate::Open | Fate::Unknown => Err(committed.err().unwrap_or(PgError::TransactionEnded)),
    }
}

/// Writes down that the transaction `xid` does a file's statements up to and without the one of the number `done`, and
/// the `progress` that this is.
pub(crate) async fn begin_steps(
    session: &Session,
    row: i64,
    done: usize,
    progress: &Progress,
    xid: &str,
) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE pgdb.migrations SET doing = {DOING} || jsonb_build_object('done', {done}, 'progress', $2::jsonb) \
         WHERE id = {row} RETURNING id"
    );
    let progress = serde_json::to_string(progress).unwrap_or_default();
    session.keeper().query("write the ledger", &sql, &[xid, &progress]).await.map(drop)
}

/// After the commit of what [`begin_steps`] has written down: notes what is true. Whether it was committed.
pub(crate) async fn end_steps(session: &Session, row: i64, xid: &str) -> Result<bool, PgError> {
    let fate = ended(session.keeper(), xid).await?;
    if !matches!(fate, Fate::Open | Fate::Unknown) {
        write_fate(session.keeper(), row, fate).await?;
    }
    Ok(fate == Fate::Committed)
}

/// What became of a transaction that has been told to end; a server that does not come to its end with it is waited for.
async fn ended(keeper: &Client, xid: &str) -> Result<Fate, PgError> {
    wait_for(keeper, xid, lock::WAIT).await
}

async fn wait_for(keeper: &Client, xid: &str, wait: Duration) -> Result<Fate, PgError> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let rows = keeper.query("look what became of a transaction", "SELECT pg_xact_status($1::xid8)", &[xid]).await?;
        let fate = match rows.first().and_then(|row| row.get::<_, Option<&str>>(0)) {
            Some("committed") => Fate::Committed,
            Some("aborted") => Fate::Aborted,
            Some(_) => Fate::Open,
            None => Fate::Unknown,
        };
        if fate != Fate::Open || begin.elapsed() >= wait {
            return Ok(fate);
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Puts an end to what earlier runs left open, whoever ended them and when; true if there was something.
///
/// The caller has the migrators' lock.
pub(crate) async fn settle(keeper: &Client, wait: Duration, listener: Listener<'_>) -> Result<bool, MigrateError> {
    // A row that has a newer one of its key was given up by hand.
    const OPEN: &str = "SELECT id, key, doing ->> 'xid', \
         doing ->> 'system' = (SELECT system_identifier::text FROM pg_control_system()) \
         FROM pgdb.migrations m WHERE outcome = 'unfinished' AND doing ->> 'xid' <> $1 \
         AND NOT EXISTS (SELECT FROM pgdb.migrations n WHERE n.key = m.key AND n.id > m.id) ORDER BY id";
    keeper.batch("set the session up", "SET search_path TO pg_catalog, pg_temp").await?;
    let rows = keeper.query("look for what earlier runs left open", OPEN, &[""]).await?;
    for row in &rows {
        let (id, key, xid, here) = (row.get::<_, i64>(0), row.get::<_, &str>(1), row.get(2), row.get(3));
        let fate = if here { wait_for(keeper, xid, wait).await? } else { Fate::Unknown };
        let message = match fate {
            Fate::Committed => "an earlier run was ended after its commit and before it could write that down",
            Fate::Aborted => "an earlier run was ended before its commit; nothing of what it did last was kept",
            Fate::Open => return Err(MigrateError::StillOpen { key: key.to_owned(), waited: wait }),
            Fate::Unknown => return Err(MigrateError::InDoubt { key: key.to_owned(), id }),
        };
        write_fate(keeper, id, fate).await?;
        listener(Event::Warning { key: Some(key), message });
    }
    Ok(!rows.is_empty())
}

/// A row of a whole file is done, or has failed; one of a file without a transaction has come some statements further,
/// or has not.
async fn write_fate(keeper: &Client, row: i64, fate: Fate) -> Result<(), PgError> {
    let set = if fate == Fate::Committed {
        "outcome = CASE WHEN statements_done IS NULL THEN 'applied' ELSE outcome END, \
         statements_done = CASE WHEN statements_done IS NULL THEN NULL ELSE (doing ->> 'done')::bigint END, \
         progress = CASE WHEN statements_done IS NULL THEN NULL ELSE doing -> 'progress' END"
    } else {
        "outcome = CASE WHEN statements_done IS NULL THEN 'failed' ELSE outcome END, \
         error = CASE WHEN statements_done IS NULL THEN 'the run was ended before its commit' ELSE error END"
    };
    keeper.batch("write the ledger", &format!("UPDATE pgdb.migrations SET {set}, doing = NULL WHERE id = {row}")).await
}
