//! What the operator of previews may do on a server, and the SQL that mends what it may not.
//!
//! The operator need not be a superuser. Since PostgreSQL 16 membership alone is not enough: it has to inherit from
//! the role that owns the previews, and to be able to act as it.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::identifier;
use tokio_postgres::Row;

/// A right that the operator lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRight {
    /// What cannot be done without it: one sentence.
    pub what: String,
    /// The statement that mends it, without a semicolon, for a superuser in any database. None where no statement
    /// can: the template itself is not there.
    pub sql: Option<String>,
}

/// What was seen of the operator and of what it works with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The role that the session acts as.
    pub operator: String,
    /// It may do everything.
    pub superuser: bool,
    /// `CREATEDB`.
    pub create_db: bool,
    /// `CREATEROLE`.
    pub create_role: bool,
    /// New memberships let it use what they give.
    pub inherits: bool,
    /// It inherits from `pg_signal_backend`.
    pub signal: bool,
    /// Whether it has the rights of the template's owner; none if there is no such database.
    pub template: Option<bool>,
    /// Whether it inherits from the previews' owner and can act as it; none if there is no such role.
    pub owner: Option<bool>,
}

/// Looks at what the operator, whose session `client` is, may do with the database `template` and the role `owner`
/// that is to own the previews. One round trip; changes nothing.
pub async fn missing_rights(client: &Client, template: &str, owner: &str) -> Result<Vec<MissingRight>, PgError> {
    // Before 16 every member can act as the role, and there is no such thing to ask for.
    let act = if client.major() >= 16 { "SET" } else { "MEMBER" };
    let sql = format!(
        "SELECT me.rolname::text, me.rolsuper, me.rolcreatedb, me.rolcreaterole, \
         me.rolinherit, \
         pg_has_role(me.oid, 'pg_signal_backend', 'USAGE'), \
         (SELECT pg_has_role(me.oid, datdba, 'USAGE') FROM pg_database WHERE datname = $1), \
         (SELECT pg_has_role(me.oid, oid, 'USAGE') AND pg_has_role(me.oid, oid, '{act}') \
          FROM pg_roles WHERE rolname = $2) \
         FROM pg_roles me WHERE me.rolname = current_user"
    );
    let rows = client.query("look at the operator's rights", &sql, &[template, owner]).await?;
    plan_rights(&rows.first().map(seen).unwrap_or_default(), template, owner, client.major())
}

fn seen(row: &Row) -> Seen {
    Seen {
        operator: row.get(0),
        superuser: row.get(1),
        create_db: row.get(2),
        create_role: row.get(3),
        inherits: row.get(4),
        signal: row.get(5),
        template: row.get(6),
        owner: row.get(7),
    }
}

/// What is missing, given what was seen on a server of this major version, in the order in which to mend it.
pub fn plan_rights(seen: &Seen, template: &str, owner: &str, major: u16) -> Result<Vec<MissingRight>, PgError> {
    let operator = identifier(&seen.operator)?;
    let mut missing = Vec::new();
    let mut lacks = |what: String, sql: Option<String>| missing.push(MissingRight { what, sql });
    if !seen.superuser && !seen.create_db {
        lacks("The operator cannot create databases.".into(), Some(format!("ALTER ROLE {operator} CREATEDB")));
    }
    if !seen.superuser && !seen.create_role {
        lacks("The operator cannot create roles.".into(), Some(format!("ALTER ROLE {operator} CREATEROLE")));
    }
    // What a membership gives is settled by this when it is made on 16 and later, when it is used before.
    if !seen.inherits && (!seen.signal || seen.owner != Some(true)) {
        lacks("The operator does not inherit from its roles.".into(), Some(format!("ALTER ROLE {operator} INHERIT")));
    }
    let join = if major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    if !seen.signal {
        lacks(
            "The operator cannot end sessions of other roles.".into(),
            Some(format!("GRANT pg_signal_backend TO {operator}{join}")),
        );
    }
    let quoted = identifier(owner)?;
    match seen.owner {
        Some(true) => {}
        Some(false) => lacks(
            format!("The operator cannot act as '{owner}', which is to own the previews."),
            Some(format!("GRANT {quoted} TO {operator}{join}")),
        ),
        None => lacks(
            format!("There is no role '{owner}' to own the previews."),
            Some(format!("CREATE ROLE {quoted} NOLOGIN ROLE {operator}")),
        ),
    }
    match seen.template {
        Some(true) => {}
        Some(false) => lacks(
            format!("The operator does not own the template '{template}', so it cannot copy it."),
            Some(format!("ALTER DATABASE {} OWNER TO {operator}", identifier(template)?)),
        ),
        None => lacks(format!("There is no database '{template}' to copy."), None),
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_quoted_and_a_template_that_is_not_there_has_no_remedy() {
        let seen = Seen { operator: "o\"p".into(), superuser: true, inherits: true, signal: true, ..Seen::default() };
        let missing = plan_rights(&seen, "t", "a\"b", 16).expect("a plan");
        let sql: Vec<Option<&str>> = missing.iter().map(|right| right.sql.as_deref()).collect();
        assert_eq!(sql, [Some(r#"CREATE ROLE "a""b" NOLOGIN ROLE "o""p""#), None]);
        assert!(plan_rights(&seen, "t", &"a".repeat(64), 16).is_err(), "PostgreSQL would cut it off");
    }
}
