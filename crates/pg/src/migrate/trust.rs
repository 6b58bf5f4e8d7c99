//! Whether the ledger is what it would have to be: reading or writing `pgdb.migrations` must not run anybody's code.
//!
//! Whoever may make schemas in a database could make one called `pgdb` before us, with a view or with triggers that then
//! run with our rights. So before each reading and writing the catalogs are asked, which run nothing of anybody's.

use crate::connect::Client;
use crate::error::PgError;
use tokio_postgres::Row;

/// What is to be done with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Whoever it belongs to, if nothing in it runs when it is read.
    Read,
    /// It has to belong to somebody who is trusted, and nothing in it may run when it is written.
    Write,
}

/// How the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none, nor its schema, and whatever is made belongs to who makes it, and to nobody else.
    Nothing,
    /// There is none.
    Absent,
    /// One that an earlier version made, which lacks a column.
    Older,
    /// All is there.
    Whole,
}

/// Whether there is a schema `pgdb`, and else whether there are default privileges.
const PRESENCE: &str = "SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgdb') THEN 'schema' \
     WHEN EXISTS (SELECT FROM pg_catalog.pg_default_acl) THEN 'privileges' ELSE 'nothing' END";

/// One row where there is a table: whether nothing in it runs when it is read, as far as that can be told without asking
/// more; whether it has all columns. It takes a third of the time of [`LOOK`].
const GLANCE: &str = "SELECT \
     c.relkind = 'r' AND NOT (c.relhasrules OR c.relrowsecurity OR c.relhassubclass) AND c.relchecks = 0 AND \
       NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid \
         AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)) AND \
       NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid) AND \
       NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         AND (a.atttypid >= 16384 OR a.attgenerated <> '' OR a.attinhcount > 0)), \
     EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'progress') \
   FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations' \
   WHERE n.nspname = 'pgdb'";

/// One row where there is a schema `pgdb`. Trusted with writing are we ourselves, who can become us, whose member we are,
/// superusers, and the database's owner. A type, a default, a constraint or an index of our table is PostgreSQL's own.
/// Reading is enough to run what is in an index, a check or statistics: a plan works out what it can.
const LOOK: &str = "WITH me AS (SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
     trusted AS (SELECT r.oid FROM pg_catalog.pg_roles r, me WHERE r.oid = me.oid OR r.rolname = session_user OR r.rolsuper \
       OR r.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
       OR pg_catalog.pg_has_role(r.oid, me.oid, 'MEMBER') \
       OR NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')) \
   SELECT pg_catalog.pg_get_userbyid(n.nspowner)::text, n.nspowner IN (SELECT oid FROM trusted), \
     pg_catalog.pg_get_userbyid(c.relowner)::text, c.relowner IN (SELECT oid FROM trusted), \
     pg_catalog.concat_ws(', ', CASE WHEN c.relkind <> 'r' THEN 'is no plain table' END, \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid) AND c.relkind = 'r' \
         THEN 'has rules' END, \
       CASE WHEN c.relrowsecurity THEN 'has row level security' END, \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid) \
         THEN 'is inherited' END, \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
           AND NOT a.attisdropped AND (a.atttypid >= 16384 OR a.attgenerated <> '')) \
         THEN 'has columns of other types or generated ones' END, \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('p', 'n')) \
           OR EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid \
             AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)) \
           OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid) \
         THEN 'has constraints, indexes or statistics of others' END), \
     pg_catalog.concat_ws(', ', \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid) THEN 'has triggers' END, \
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid \
           AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) \
             NOT IN ('clock_timestamp()', '0', '1', '(0)::bigint', '(1)::bigint', 'SESSION_USER', '''[]''::jsonb')) \
         THEN 'has other defaults' END), \
     pg_catalog.has_table_privilege(c.oid, 'INSERT') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE'), \
     EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'progress'), current_user::text \
   FROM me, pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations' \
   WHERE n.nspname = 'pgdb'";

/// Looks; [`PgError::UnfitLedger`] where the ledger may not be used so.
pub(crate) async fn check(client: &Client, usage: Use) -> Result<Found, PgError> {
    match client.first_value("look for the ledger", PRESENCE).await?.flatten().as_deref() {
        Some("nothing") => return Ok(Found::Nothing),
        Some("privileges") => return Ok(Found::Absent),
        _ => {}
    }
    if usage == Use::Read {
        let seen = client.query("look at the ledger", GLANCE, &[]).await?;
        match seen.first().map(|row| (row.get(0), row.get(1))) {
            None => return Ok(Found::Absent),
            Some((true, whole)) => return Ok(if whole { Found::Whole } else { Found::Older }),
            Some((false, _)) => {}
        }
    }
    let rows = client.query("look whose the ledger is", LOOK, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Found::Absent) };
    match trouble(row, usage) {
        Some(error) => Err(error),
        None if row.get::<_, Option<&str>>(2).is_none() => Ok(Found::Absent),
        None if row.get(7) => Ok(Found::Whole),
        None => Ok(Found::Older),
    }
}

fn trouble(row: &Row, usage: Use) -> Option<PgError> {
    let unfit = |what: String, advice: String| Some(PgError::UnfitLedger { what, advice });
    let (schema_owner, owner) = (row.get::<_, &str>(0), row.get::<_, Option<&str>>(2));
    let me: &str = row.get(8);
    let take = |thing: &str| {
        format!(
            "if that is right, a superuser can say ALTER {thing} OWNER TO {me}; else remove it, after a look who made it"
        )
    };
    let write = usage == Use::Write;
    if let Some(owner) = owner {
        let on_write = if write { row.get::<_, &str>(5) } else { "" };
        let runs: Vec<&str> = [row.get::<_, &str>(4), on_write].into_iter().filter(|why| !why.is_empty()).collect();
        if !runs.is_empty() {
            let what = format!("table pgdb.migrations, which belongs to {owner}, {}", runs.join(", "));
            let advice = "what others have put there would run with the rights of this login; remove it".to_owned();
            return unfit(what, advice);
        }
        if write && !row.get::<_, Option<bool>>(6).unwrap_or_default() {
            let what = format!("the ledger belongs to {owner}, and {me} may not write into it");
            let advice = "in a preview of pgdb use `pgdb migrate rollout --preview NUMBER`, elsewhere run as its owner";
            return unfit(what, advice.to_owned());
        }
        if write && !row.get::<_, Option<bool>>(3).unwrap_or_default() {
            let what = format!("table pgdb.migrations belongs to {owner}, who is not trusted by {me}");
            return unfit(what, take("TABLE pgdb.migrations"));
        }
    }
    if write && !row.get::<_, bool>(1) {
        let what = format!("schema pgdb belongs to {schema_owner}, who is not trusted by {me}");
        return unfit(what, take("SCHEMA pgdb"));
    }
    None
}
