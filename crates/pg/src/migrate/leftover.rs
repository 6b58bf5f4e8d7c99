//! Invalid indexes that a statement leaves behind when it does not come to its end, told apart from everybody else's.
//!
//! Before `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY` the ledger's row says which indexes are invalid already, and
//! from which transaction on. What is invalid afterwards, was not before, is younger, and is called as the statement calls
//! it, that statement has left.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::index::Made;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{self, Instant};

/// How long a session that still works on the table is waited for: one that was killed ends within seconds.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// How things were before the statement, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// Transactions that began later have this number or a higher one.
    since: String,
    /// The numbers of the indexes that were invalid.
    invalid: Vec<u32>,
    /// The number of the table that gets an index; `None` when indexes are made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    /// What the index will be called, if the statement says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// What was found afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// These indexes, quoted, with their schemas.
    Ours(Vec<String>),
    /// Several, of which the statement can have left one: it does not say what its index is called.
    Unclear(Vec<String>),
    /// These, on whose table another session is at work.
    Busy(Vec<String>),
}

impl Before {
    /// Looks before a statement: one that makes an index, or with `None` one that makes indexes anew.
    pub(crate) async fn look(client: &Client, made: Option<&Made>) -> Result<Self, PgError> {
        const SQL: &str = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text, \
             pg_catalog.to_regclass(nullif($1, ''))::oid, \
             ARRAY(SELECT indexrelid FROM pg_catalog.pg_index WHERE NOT indisvalid)";
        let table = made.map_or("", |made| made.table.as_str());
        let rows = client.query("look for invalid indexes", SQL, &[table]).await?;
        let name = made.and_then(|made| made.name.clone());
        Ok(match rows.first() {
            Some(row) => Self { since: row.get(0), table: row.get(1), invalid: row.get(2), name },
            None => Self { since: String::new(), table: None, invalid: Vec::new(), name },
        })
    }

    /// What the statement has left, as far as that can be told. Waits a little for sessions at work on the table.
    pub(crate) async fn left(&self, client: &Client) -> Result<Left, PgError> {
        let begin = Instant::now();
        loop {
            let found = self.found(client).await?;
            let names = found.iter().map(|(name, _)| name.clone()).collect();
            if found.iter().any(|(_, busy)| *busy) {
                if begin.elapsed() >= WAIT {
                    return Ok(Left::Busy(names));
                }
                time::sleep(PAUSE).await;
                continue;
            }
            let makes_one = self.table.is_some();
            return Ok(if makes_one && found.len() > 1 { Left::Unclear(names) } else { Left::Ours(names) });
        }
    }

    /// Invalid indexes, and whether another session is at work on the table of each.
    async fn found(&self, client: &Client) -> Result<Vec<(String, bool)>, PgError> {
        // What REINDEX leaves is called as its index is, with a tail; long names are cut before the tail.
        const SQL: &str = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
               EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.relation = i.indrelid AND l.locktype = 'relation' \
                 AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid() \
                 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) \
             FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.oid <> ALL ($1::oid[]) \
               AND pg_catalog.age(c.xmin) <= pg_catalog.age($2::xid8::xid) \
               AND CASE WHEN $3 = '' THEN c.relname ~ '_cc(new|old)[0-9]*$' AND EXISTS ( \
                     SELECT FROM pg_catalog.pg_index b JOIN pg_catalog.pg_class d ON d.oid = b.indexrelid \
                     WHERE b.indrelid = i.indrelid AND d.oid <> c.oid AND pg_catalog.starts_with(d.relname::text, \
                       pg_catalog.regexp_replace(c.relname::text, '_cc(new|old)[0-9]*$', ''))) \
                   ELSE i.indrelid = nullif($3, '')::oid AND ($4 = '' OR c.relname = $4) END \
             ORDER BY c.oid";
        let invalid: Vec<String> = self.invalid.iter().map(u32::to_string).collect();
        let invalid = format!("{{{}}}", invalid.join(","));
        let table = self.table.map(|table| table.to_string()).unwrap_or_default();
        let name = self.name.as_deref().unwrap_or_default();
        let rows = client.query("look for invalid indexes", SQL, &[&invalid, &self.since, &table, name]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Whether the index that the statement names is there and whole, and was not there before.
    pub(crate) async fn is_made(&self, client: &Client) -> Result<bool, PgError> {
        const SQL: &str = "SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             WHERE i.indisvalid AND i.indrelid = nullif($1, '')::oid AND c.relname = $2 \
               AND pg_catalog.age(c.xmin) <= pg_catalog.age($3::xid8::xid)";
        let (Some(table), Some(name)) = (self.table, &self.name) else { return Ok(false) };
        let rows = client.query("look for the index", SQL, &[&table.to_string(), name, &self.since]).await?;
        Ok(!rows.is_empty())
    }
}

/// Removes one; `name` comes from [`Before::left`], which quotes it.
pub(crate) async fn drop_index(client: &Client, name: &str) -> Result<(), PgError> {
    client.batch("drop the invalid index", &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await
}
