//! Stand-in for the preview module until it is merged.
#![allow(missing_docs)]

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;

async fn member(c: &Client, role: &str) -> Result<(), PgError> {
    let q = identifier(role)?;
    let with = if c.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    c.batch("join the role", &format!("GRANT {q} TO CURRENT_USER{with}")).await
}

pub async fn make_role(c: &Client, role: &str, verifier: &str) -> Result<(), PgError> {
    let q = identifier(role)?;
    let rows = c.query("look for the role", "SELECT FROM pg_roles WHERE rolname = $1", &[role]).await?;
    if rows.is_empty() {
        c.batch("make the role", &format!("CREATE ROLE {q}")).await?;
    }
    c.batch("set", &format!("ALTER ROLE {q} LOGIN PASSWORD '{verifier}'")).await?;
    member(c, role).await
}

pub async fn normalise(c: &Client, holder: &str) -> Result<(), PgError> {
    let q = identifier(holder)?;
    let rows = c.query("look for the role", "SELECT FROM pg_roles WHERE rolname = $1", &[holder]).await?;
    if rows.is_empty() {
        c.batch("make the role", &format!("CREATE ROLE {q}")).await?;
    }
    member(c, holder).await?;
    c.batch("normalise", &format!("DO $do$ DECLARE s text; BEGIN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO {q}', current_database()); GRANT ALL ON SCHEMA public TO {q};
        FOR s IN SELECT format('ALTER SCHEMA %I OWNER TO {q}', nspname) FROM pg_namespace WHERE nspowner = current_user::regrole
            UNION ALL SELECT format('ALTER TABLE %s OWNER TO {q}', oid::regclass) FROM pg_class WHERE relowner = current_user::regrole AND relkind IN ('r','v','m','p','f')
            UNION ALL SELECT format('ALTER SEQUENCE %s OWNER TO {q}', oid::regclass) FROM pg_class k WHERE relowner = current_user::regrole AND relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = k.oid AND deptype IN ('a','i') AND classid = 'pg_class'::regclass)
            UNION ALL SELECT format('ALTER ROUTINE %s OWNER TO {q}', oid::regprocedure) FROM pg_proc WHERE proowner = current_user::regrole
            UNION ALL SELECT format('ALTER TYPE %s OWNER TO {q}', oid::regtype) FROM pg_type WHERE typowner = current_user::regrole AND typtype IN ('e','d')
        LOOP EXECUTE s; END LOOP; END $do$")).await
}

pub async fn clone(c: &Client, db: &str, template: &str) -> Result<(), PgError> {
    let rows = c.query("look", "SELECT FROM pg_database WHERE datname = $1", &[db]).await?;
    if !rows.is_empty() {
        return Ok(());
    }
    c.batch("clone", &format!("CREATE DATABASE {} TEMPLATE {}", identifier(db)?, identifier(template)?)).await
}

pub async fn hand_over(c: &Client, db: &str, role: &str, holder: &str) -> Result<(), PgError> {
    let raw = holder;
    let (db, role, holder) = (identifier(db)?, identifier(role)?, identifier(holder)?);
    c.batch(
        "hand over",
        &format!(
            "REVOKE CONNECT ON DATABASE {db} FROM PUBLIC; GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {db} TO {role}; \
             DO $do$ DECLARE s text; BEGIN FOR s IN SELECT format('ALTER SCHEMA %I OWNER TO {role}', nspname) FROM pg_namespace \
             WHERE nspname = 'public' OR nspowner = (SELECT oid FROM pg_roles WHERE rolname = '{raw}') LOOP EXECUTE s; END LOOP; END $do$; REASSIGN OWNED BY {holder} TO {role}"
        ),
    )
    .await
}

pub async fn drop_role(c: &Client, role: &str) -> Result<(), PgError> {
    c.batch("drop role", &format!("DROP ROLE IF EXISTS {}", identifier(role)?)).await
}

pub async fn hand_out(c: &Client, from: (&str, &str), to: (&str, &str), verifier: Option<&str>) -> Result<(), PgError> {
    let mut sql = format!(
        "ALTER DATABASE {} RENAME TO {}; ALTER ROLE {} RENAME TO {}",
        identifier(from.0)?, identifier(to.0)?, identifier(from.1)?, identifier(to.1)?
    );
    if let Some(verifier) = verifier {
        sql.push_str(&format!("; ALTER ROLE {} PASSWORD '{verifier}'", identifier(to.1)?));
    }
    c.batch("hand out", &sql).await
}

pub async fn set_verifier(c: &Client, role: &str, verifier: &str) -> Result<(), PgError> {
    c.batch("set the verifier", &format!("ALTER ROLE {} PASSWORD '{verifier}'", identifier(role)?)).await
}
