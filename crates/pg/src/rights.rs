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

/// The names that previews work with.
#[derive(Debug, Clone, Copy)]
pub struct Roles<'a> {
    /// The database that is copied.
    pub template: &'a str,
    /// The role that is to own the previews.
    pub owner: &'a str,
    /// The role that reads and writes in every preview.
    pub dev: &'a str,
    /// The role that owns what is in the template; made at the first look at it.
    pub holder: &'a str,
    /// What the names of the previews' own roles begin with.
    pub app_prefix: &'a str,
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
    /// Whether there is a dev role.
    pub dev: bool,
    /// Roles of previews, and of the template, that it can neither act as nor hand on.
    pub beyond: Vec<String>,
}

/// Looks at what the operator, whose session `client` is, may do. One round trip; changes nothing.
pub async fn missing_rights(client: &Client, names: &Roles<'_>) -> Result<Vec<MissingRight>, PgError> {
    // Before 16 every member can act as the role, and there is no such thing to ask for.
    let act = if client.major() >= 16 { "SET" } else { "MEMBER" };
    // Nor is there anything to ask for with roles that it has not made: whoever may create roles may grant them.
    let needs_admin = client.major() >= 16;
    let sql = format!(
        "SELECT me.rolname::text, me.rolsuper, me.rolcreatedb, me.rolcreaterole, \
         me.rolinherit, \
         pg_has_role(me.oid, 'pg_signal_backend', 'USAGE'), \
         (SELECT pg_has_role(me.oid, datdba, 'USAGE') FROM pg_database WHERE datname = $1), \
         (SELECT pg_has_role(me.oid, oid, 'USAGE') AND pg_has_role(me.oid, oid, '{act}') \
          FROM pg_roles WHERE rolname = $2), \
         EXISTS (SELECT FROM pg_roles WHERE rolname = $3), \
         ARRAY(SELECT rolname::text FROM pg_roles r WHERE {needs_admin} \
               AND (rolname = $4 OR left(rolname, length($5)) = $5) \
               AND NOT (pg_has_role(me.oid, r.oid, 'USAGE WITH ADMIN OPTION') AND pg_has_role(me.oid, r.oid, '{act}')) \
               ORDER BY rolname) \
         FROM pg_roles me WHERE me.rolname = current_user"
    );
    let rows = client
        .query(
            "look at the operator's rights",
            &sql,
            &[names.template, names.owner, names.dev, names.holder, names.app_prefix],
        )
        .await?;
    plan_rights(&rows.first().map(seen).unwrap_or_default(), names, client.major())
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
        dev: row.get(8),
        beyond: row.get(9),
    }
}

/// What is missing, given what was seen on a server of this major version, in the order in which to mend it.
pub fn plan_rights(seen: &Seen, names: &Roles<'_>, major: u16) -> Result<Vec<MissingRight>, PgError> {
    let Roles { template, owner, dev, .. } = *names;
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
    if !seen.dev {
        lacks(
            format!("There is no role '{dev}' to look into previews with."),
            Some(format!("CREATE ROLE {} LOGIN", identifier(dev)?)),
        );
    }
    for role in &seen.beyond {
        lacks(
            format!("The operator cannot act as '{role}', nor hand it on or drop it."),
            Some(format!("GRANT {} TO {operator} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE", identifier(role)?)),
        );
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
        let names = Roles { template: "t", owner: "a\"b", dev: "d\"v", holder: "t_owner", app_prefix: "t_app_" };
        let missing = plan_rights(&seen, &names, 16).expect("a plan");
        let sql: Vec<Option<&str>> = missing.iter().map(|right| right.sql.as_deref()).collect();
        assert_eq!(sql, [Some(r#"CREATE ROLE "a""b" NOLOGIN ROLE "o""p""#), Some(r#"CREATE ROLE "d""v" LOGIN"#), None]);
        let long = "a".repeat(64);
        assert!(plan_rights(&seen, &Roles { owner: &long, ..names }, 16).is_err(), "PostgreSQL would cut it off");
    }
}
