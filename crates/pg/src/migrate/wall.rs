//! Whether files that run as one role can reach a ledger that another role keeps.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::error::MigrateError;

/// How the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// There is none. Not to be read: by the time one looks, the files' role may have made something of that name.
    Absent,
    /// It is there and out of the files' role's reach, which it cannot change.
    Kept,
}

/// Looks, as the role that keeps the ledger, whether `user` is kept away from it. Nothing that is read here runs
/// anybody's functions.
pub(crate) async fn check(keeper: &Client, user: &str) -> Result<Ledger, MigrateError> {
    // A row for each thing that would be a door; an empty list is a wall.
    const SQL: &str = "WITH app AS (SELECT * FROM pg_roles WHERE rolname = $1), \
         me AS (SELECT * FROM pg_roles WHERE rolname = current_user), \
         led AS (SELECT c.oid, c.relowner, c.relkind, c.relhastriggers OR c.relhasrules AS runs \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE n.nspname = 'pgdb' AND c.relname = 'migrations'), \
         trusted AS (SELECT oid FROM me UNION SELECT oid FROM pg_roles WHERE rolsuper) \
         SELECT 'it is the role that keeps the ledger' FROM app, me WHERE app.oid = me.oid \
         UNION ALL SELECT 'it is a superuser' FROM app WHERE rolsuper \
         UNION ALL SELECT 'it may act as ' || me.rolname FROM app, me \
           WHERE NOT app.rolsuper AND app.oid <> me.oid AND pg_has_role(app.oid, me.oid, 'MEMBER') \
         UNION ALL SELECT 'it may create roles, and with that become any' FROM app \
           WHERE rolcreaterole AND NOT rolsuper AND current_setting('server_version_num')::integer < 160000 \
         UNION ALL SELECT 'it is a member of ' || r.rolname FROM app, pg_roles r WHERE NOT app.rolsuper \
           AND r.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_write_all_data') \
           AND pg_has_role(app.oid, r.oid, 'MEMBER') \
         UNION ALL SELECT 'the schema pgdb belongs to ' || pg_get_userbyid(nspowner) FROM pg_namespace \
           WHERE nspname = 'pgdb' AND nspowner NOT IN (SELECT oid FROM trusted) \
         UNION ALL SELECT 'pgdb.migrations belongs to ' || pg_get_userbyid(relowner) FROM led \
           WHERE relowner NOT IN (SELECT oid FROM trusted) \
         UNION ALL SELECT 'pgdb.migrations is no plain table, or has triggers or rules' FROM led \
           WHERE relkind <> 'r' OR runs \
         UNION ALL SELECT 'it may write into pgdb.migrations' FROM led, app \
           WHERE NOT app.rolsuper AND app.oid <> led.relowner \
           AND has_table_privilege(app.oid, led.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') \
         UNION ALL SELECT NULL FROM led";
    let rows = keeper.query("look whether the ledger is out of reach", SQL, &[user]).await?;
    let found: Vec<Option<&str>> = rows.iter().map(|row| row.get(0)).collect();
    let doors: Vec<&str> = found.iter().copied().flatten().collect();
    match (doors.is_empty(), found.is_empty()) {
        (true, true) => Ok(Ledger::Absent),
        (true, false) => Ok(Ledger::Kept),
        (false, _) => Err(MigrateError::NoWall { role: user.to_owned(), why: doors.join("; ") }),
    }
}

/// The wall again, once the ledger has to be there.
pub(crate) async fn check_kept(keeper: &Client, user: &str) -> Result<(), MigrateError> {
    match check(keeper, user).await? {
        Ledger::Kept => Ok(()),
        Ledger::Absent => Err(PgError::Missing {
            kind: "table",
            name: "pgdb.migrations".to_owned(),
            hint: ": somebody removed the ledger while it was made".to_owned(),
        }
        .into()),
    }
}
