//! Whole databases: made, dropped, and put in each other's place for a restore.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::{identifier, literal};
use std::time::Duration;
use tokio::time::{self, Instant};

/// How long sessions that were told to end may take.
const SESSIONS_END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// `pg_database.datconnlimit` of a database whose `DROP` was cut short; it can only be dropped again.
const INVALID: &str = "-2";

/// Makes an empty database. One that is there is left as it is, unless it is the rest of a half-done drop.
///
/// It is a copy of `template0`, as `pg_restore` wants it: nothing that the server's owner put into `template1`.
pub async fn create_database(client: &Client, name: &str, owner: &str) -> Result<(), PgError> {
    let sql = format!("CREATE DATABASE {} OWNER {} TEMPLATE template0", identifier(name)?, identifier(owner)?);
    let look = "SELECT datconnlimit::text FROM pg_database WHERE datname = $1";
    match client.query("look for the database", look, &[name]).await?.first() {
        Some(row) if row.get::<_, &str>(0) == INVALID => drop_database(client, name).await?,
        Some(_) => return Ok(()),
        None => {}
    }
    match client.batch("create database", &sql).await {
        // Another call made it since we looked; the second code comes from the catalog's unique index.
        Err(error) if matches!(error.sqlstate(), Some("42P04" | "23505")) => Ok(()),
        done => done,
    }
}

/// Drops a database and ends its sessions. One that is not there is fine, and so is one that is marked as a template.
pub async fn drop_database(client: &Client, name: &str) -> Result<(), PgError> {
    let quoted = identifier(name)?;
    let marked = "SELECT FROM pg_database WHERE datname = $1 AND datistemplate AND datconnlimit <> -2";
    if !client.query("look for the database", marked, &[name]).await?.is_empty() {
        let unmark = format!("ALTER DATABASE {quoted} IS_TEMPLATE false");
        client.batch("make the database one that can be dropped", &unmark).await?;
    }
    client.batch("drop database", &format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")).await
}

/// Whether there is a database of this name that can be used (a half-dropped one cannot).
pub async fn database_exists(client: &Client, name: &str) -> Result<bool, PgError> {
    let sql = "SELECT FROM pg_database WHERE datname = $1 AND datconnlimit <> -2";
    Ok(!client.query("look for the database", sql, &[name]).await?.is_empty())
}

/// The role that owns the database; none if there is no such database.
pub async fn owner(client: &Client, name: &str) -> Result<Option<String>, PgError> {
    let sql = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1";
    Ok(client.query("look for the database's owner", sql, &[name]).await?.first().map(|row| row.get(0)))
}

/// Bytes on disk; none if there is no such database.
pub async fn database_size(client: &Client, name: &str) -> Result<Option<u64>, PgError> {
    let sql = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = $1";
    let rows = client.query("measure the database", sql, &[name]).await?;
    Ok(rows.first().and_then(|row| row.get::<_, Option<i64>>(0)).and_then(|bytes| u64::try_from(bytes).ok()))
}

/// Lets only the owner, superusers and roles that were granted it connect.
pub async fn revoke_connect_from_public(client: &Client, name: &str) -> Result<(), PgError> {
    let sql = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", identifier(name)?);
    client.batch("revoke connect from public", &sql).await
}

/// Lets sessions into the database, or no new ones. Superusers too are kept out.
pub async fn allow_connections(client: &Client, name: &str, allow: bool) -> Result<(), PgError> {
    let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", identifier(name)?);
    client.batch("allow or refuse connections to the database", &sql).await
}

/// Closes a database that clones are made of: nobody is let in, nobody but its owner can copy it, and PUBLIC has no right
/// to connect, should somebody open it.
pub async fn close_template(client: &Client, name: &str) -> Result<(), PgError> {
    let quoted = identifier(name)?;
    let sql = format!(
        "ALTER DATABASE {quoted} ALLOW_CONNECTIONS false IS_TEMPLATE false;\
         REVOKE CONNECT, TEMPORARY ON DATABASE {quoted} FROM PUBLIC"
    );
    client.batch("close the template", &sql).await
}

/// What [`swap_databases`] still has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapPlan {
    /// `current` becomes `outgoing`, `incoming` becomes `current`.
    Swap,
    /// There is no `current` to put aside.
    MoveIn,
    /// It has been done.
    Done,
}

/// Which of the three databases of a swap are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwapSeen {
    /// The one to be replaced.
    pub current: bool,
    /// Its replacement.
    pub incoming: bool,
    /// The name that the replaced one gets.
    pub outgoing: bool,
}

/// What to do, or which of the names is `Missing` or `InTheWay`: the first name is the one concerned.
pub fn plan_swap(current: &str, incoming: &str, outgoing: &str, seen: SwapSeen) -> Result<SwapPlan, PgError> {
    let missing = |name: &str| PgError::Missing { kind: "database", name: name.to_owned(), hint: String::new() };
    match (seen.current, seen.incoming, seen.outgoing) {
        (true, true, false) => Ok(SwapPlan::Swap),
        (false, true, _) => Ok(SwapPlan::MoveIn),
        (true, false, true) => Ok(SwapPlan::Done),
        (true, true, true) => Err(PgError::InTheWay { kind: "database", name: outgoing.to_owned() }),
        (true, false, false) => Err(missing(incoming)),
        (false, false, _) => Err(missing(current)),
    }
}

/// Puts `incoming` in the place of `current`, which becomes `outgoing`, in one transaction. Idempotent.
///
/// Sessions of all of them are ended. From just before until the swap nobody can connect to `current`: otherwise
/// a client that connects again at once would make PostgreSQL refuse the rename. If it fails, `current` is opened
/// again; after a crash, repeat the call or undo with [`allow_connections`]. Afterwards `outgoing` stays closed;
/// swapping it back opens it.
pub async fn swap_databases(client: &Client, current: &str, incoming: &str, outgoing: &str) -> Result<(), PgError> {
    let seen = SwapSeen {
        current: database_exists(client, current).await?,
        incoming: database_exists(client, incoming).await?,
        outgoing: database_exists(client, outgoing).await?,
    };
    match plan_swap(current, incoming, outgoing, seen)? {
        SwapPlan::Done => allow_connections(client, current, true).await,
        SwapPlan::MoveIn => {
            end_sessions(client, incoming).await?;
            rename(client, &[(incoming, current)], current).await
        }
        SwapPlan::Swap => {
            allow_connections(client, current, false).await?;
            let swapped = swap_closed(client, current, incoming, outgoing).await;
            if swapped.is_err() {
                // The failure that brought us here is the one to tell; this one would only repeat it.
                if let Err(error) = allow_connections(client, current, true).await {
                    tracing::warn!(database = current, %error, "database stays closed after a failed swap");
                }
            }
            swapped
        }
    }
}

async fn swap_closed(client: &Client, current: &str, incoming: &str, outgoing: &str) -> Result<(), PgError> {
    end_sessions(client, current).await?;
    end_sessions(client, incoming).await?;
    rename(client, &[(current, outgoing), (incoming, current)], current).await
}

/// Renames in one transaction (statements of one message are one), and opens the database that is then `open`.
async fn rename(client: &Client, pairs: &[(&str, &str)], open: &str) -> Result<(), PgError> {
    let mut sql = String::new();
    for (from, to) in pairs {
        sql.push_str(&format!("ALTER DATABASE {} RENAME TO {};", identifier(from)?, identifier(to)?));
    }
    sql.push_str(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(open)?));
    client.batch("rename databases", &sql).await
}

/// Gives the database to a role, which the client must be able to act as.
pub async fn set_owner(client: &Client, name: &str, role: &str) -> Result<(), PgError> {
    let sql = format!("ALTER DATABASE {} OWNER TO {}", identifier(name)?, identifier(role)?);
    client.batch("give the database to its owner", &sql).await
}

/// PostgreSQL's number of the database, which stays when it is renamed; none if there is no such database.
pub async fn oid(client: &Client, name: &str) -> Result<Option<u32>, PgError> {
    let sql = "SELECT oid FROM pg_database WHERE datname = $1 AND datconnlimit <> -2";
    Ok(client.query("look for the database", sql, &[name]).await?.first().map(|row| row.get(0)))
}

/// Renames templates, one after the other in one transaction: all of them or none. They are closed first.
pub async fn rename_templates(client: &Client, pairs: &[(&str, &str)]) -> Result<(), PgError> {
    let mut statements = Vec::new();
    for (from, to) in pairs {
        // The rest of a half-done drop has no sessions, and cannot be altered.
        if database_exists(client, from).await? {
            close_template(client, from).await?;
            end_sessions(client, from).await?;
        }
        statements.push(format!("ALTER DATABASE {} RENAME TO {}", identifier(from)?, identifier(to)?));
    }
    client.batch("rename databases", &statements.join(";")).await
}

/// Ends all sessions of a database but our own, and returns when they are gone. Autovacuum has no role and is no
/// session: nobody but a superuser may end it, and a drop or a rename sends it away by itself.
pub async fn end_sessions(client: &Client, name: &str) -> Result<(), PgError> {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = {} AND pid <> pg_backend_pid() AND usesysid IS NOT NULL",
        literal(name)?
    );
    let begin = Instant::now();
    loop {
        let sessions = client.query("end the database's sessions", &sql, &[]).await?.len();
        if sessions == 0 {
            return Ok(());
        }
        if begin.elapsed() >= SESSIONS_END {
            let (database, sessions) = (name.to_owned(), sessions as u64);
            return Err(PgError::SessionsRemain { database, sessions, waited: SESSIONS_END });
        }
        time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(current: bool, incoming: bool, outgoing: bool) -> Result<SwapPlan, String> {
        plan_swap("cur", "in", "out", SwapSeen { current, incoming, outgoing }).map_err(|error| error.to_string())
    }

    #[test]
    fn every_state_has_one_answer() {
        assert_eq!(plan(true, true, false), Ok(SwapPlan::Swap));
        assert_eq!(plan(false, true, false), Ok(SwapPlan::MoveIn));
        assert_eq!(plan(false, true, true), Ok(SwapPlan::MoveIn));
        assert_eq!(plan(true, false, true), Ok(SwapPlan::Done));
        assert_eq!(plan(true, true, true), Err("database 'out' is in the way".into()));
        assert_eq!(plan(true, false, false), Err("database 'in' does not exist".into()));
        assert_eq!(plan(false, false, true), Err("database 'cur' does not exist".into()));
    }
}
