//! What every new server holds before it is anybody's: a role without a login, and a database that belongs to it.

use crate::spec::{PREPARED_DB, PREPARED_ROLE};

/// What runs the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// A server without a postmaster, on data that is going to be copied.
    Single,
    /// A server that others may be connected to.
    Running,
}

/// Statements to run once in the database `postgres`, as the bootstrap superuser; each is one line.
pub(crate) fn cluster(major: u16, server: Server) -> Vec<String> {
    // Before 16, CREATEROLE is the right to grant oneself any role of the system's, such as the one that runs
    // programs as the servers' user; that would open every other server of this machine.
    let createrole = if major >= 16 { "CREATEROLE" } else { "NOCREATEROLE" };
    // Copying the files keeps the database out of the log, which is copied too. It costs two checkpoints, which are
    // dear while everything is synced.
    let strategy = if major >= 15 && server == Server::Single { " STRATEGY file_copy" } else { "" };
    vec![
        format!("CREATE ROLE {PREPARED_ROLE} NOLOGIN NOSUPERUSER CREATEDB {createrole}"),
        format!("GRANT pg_monitor, pg_signal_backend TO {PREPARED_ROLE}"),
        format!("CREATE DATABASE {PREPARED_DB} OWNER {PREPARED_ROLE}{strategy}"),
        format!("REVOKE CONNECT, TEMPORARY ON DATABASE {PREPARED_DB} FROM PUBLIC"),
    ]
}

/// Statements to run after those in the database that they make.
pub(crate) fn database(major: u16) -> Vec<String> {
    // From 15 on the schema belongs to whoever owns the database.
    if major < 15 { vec![format!("ALTER SCHEMA public OWNER TO {PREPARED_ROLE}")] } else { vec![] }
}
