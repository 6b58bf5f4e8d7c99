//! Giving a new instance its owner: a role with a password, and a database.
//!
//! Each call looks first, plans with a pure function, then applies, so that it can be repeated.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::{identifier, literal};
use crate::scram::is_verifier;

/// The names and the password that a new server's prepared role and database are to get.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The role that the prepared data holds.
    pub prepared_role: &'a str,
    /// The database that the prepared data holds, owned by that role.
    pub prepared_db: &'a str,
    /// What the role is to be called.
    pub role: &'a str,
    /// What the database is to be called.
    pub db: &'a str,
    /// The role's password, from [`crate::scram::verifier`].
    pub verifier: &'a str,
    /// Whether the role becomes a superuser.
    pub superuser: bool,
}

/// What a server holds of the names in question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether we may change what is logged.
    pub admin_is_superuser: bool,
    /// The prepared role is there.
    pub prepared_role: bool,
    /// The prepared database is there.
    pub prepared_db: bool,
    /// The wanted role is there.
    pub role: bool,
    /// The wanted role, or the prepared one that becomes it, is a superuser.
    pub role_is_superuser: bool,
    /// The wanted database is there.
    pub db: bool,
}

/// Renames the prepared role and database and lets the role log in with its password: all of it or nothing, in
/// one round trip after one look. Repeated, it only sets the password again.
///
/// [`PgError::Missing`] when neither a prepared name nor the one it becomes is there: then the data belongs to an
/// instance that had other names, and [`adopt_existing`] is the call to make.
pub async fn claim_prepared(client: &Client, claim: Claim<'_>) -> Result<(), PgError> {
    let seen = look(client, claim.prepared_role, claim.prepared_db, claim.role, claim.db).await?;
    let statements = plan_claim(claim, seen)?;
    apply_unlogged(client, "claim the prepared database", seen.admin_is_superuser, &statements).await
}

/// The statements of [`claim_prepared`], for one transaction.
pub fn plan_claim(claim: Claim<'_>, seen: Seen) -> Result<Vec<String>, PgError> {
    let mut statements = Vec::new();
    for (kind, keyword, prepared, prepared_is_there, wanted, wanted_is_there) in [
        ("role", "ROLE", claim.prepared_role, seen.prepared_role, claim.role, seen.role),
        ("database", "DATABASE", claim.prepared_db, seen.prepared_db, claim.db, seen.db),
    ] {
        match (wanted_is_there, prepared_is_there) {
            (true, false) => {}
            (true, true) => return Err(PgError::InTheWay { kind, name: wanted.to_owned() }),
            (false, true) => {
                let (from, to) = (identifier(prepared)?, identifier(wanted)?);
                statements.push(format!("ALTER {keyword} {from} RENAME TO {to}"));
            }
            (false, false) => {
                return Err(PgError::Missing {
                    kind,
                    name: wanted.to_owned(),
                    hint: format!(
                        ", nor does '{prepared}' that would become it: this data was set up under other names"
                    ),
                });
            }
        }
    }
    let rights = match (claim.superuser, seen.role_is_superuser) {
        (true, false) => "LOGIN SUPERUSER",
        (false, true) => "LOGIN NOSUPERUSER",
        _ => "LOGIN",
    };
    statements.push(password_statement("ALTER", claim.role, rights, claim.verifier)?);
    Ok(statements)
}

/// Sees to it that the role and the database are there, for data that was set up by somebody else or under other
/// names: makes the role if it is missing, sets its password, and makes the database, owned by the role, if that
/// is missing. A database that is there keeps its owner.
///
/// The client needs to be a superuser, or a member of the role with the right to create databases.
pub async fn adopt_existing(client: &Client, role: &str, db: &str, verifier: &str) -> Result<(), PgError> {
    let seen = look(client, "", "", role, db).await?;
    let verb = if seen.role { "ALTER" } else { "CREATE" };
    let statements = [password_statement(verb, role, "LOGIN", verifier)?];
    apply_unlogged(client, "ensure the role", seen.admin_is_superuser, &statements).await?;
    if !seen.db {
        crate::swap::create_database(client, db, role).await?;
    }
    Ok(())
}

/// The role that the data was made for, a superuser, and its database: the oldest that is not PostgreSQL's own.
pub async fn first_owner(client: &Client) -> Result<(String, String), PgError> {
    let rows = client
        .query(
            "look whose data it is",
            "SELECT r.rolname::text, coalesce((SELECT d.datname::text FROM pg_database d \
               WHERE d.datdba = r.oid AND NOT d.datistemplate AND d.datname <> 'postgres' ORDER BY d.oid LIMIT 1), 'postgres') \
             FROM pg_roles r WHERE r.oid = 10",
            &[],
        )
        .await?;
    let missing = || PgError::Missing { kind: "role", name: "of the data's owner".to_owned(), hint: String::new() };
    let row = rows.first().ok_or_else(missing)?;
    Ok((row.get(0), row.get(1)))
}

/// Sets the role's password, by its verifier. Every role may do that for itself, and change nothing else.
pub async fn set_password(client: &Client, role: &str, verifier: &str) -> Result<(), PgError> {
    let statements = [password_statement("ALTER", role, "", verifier)?];
    let admin_is_superuser = look(client, "", "", role, "").await?.admin_is_superuser;
    apply_unlogged(client, "set the role's password", admin_is_superuser, &statements).await
}

fn password_statement(verb: &str, role: &str, rights: &str, verifier: &str) -> Result<String, PgError> {
    if !is_verifier(verifier) {
        return Err(PgError::NotAVerifier);
    }
    Ok(format!("{verb} ROLE {} {rights} PASSWORD {}", identifier(role)?, literal(verifier)?))
}

async fn look(client: &Client, prepared_role: &str, prepared_db: &str, role: &str, db: &str) -> Result<Seen, PgError> {
    let rows = client
        .query(
            "look for the role and the database",
            "SELECT current_setting('is_superuser') = 'on', \
             EXISTS (SELECT FROM pg_roles WHERE rolname = $1), \
             EXISTS (SELECT FROM pg_database WHERE datname = $2), \
             EXISTS (SELECT FROM pg_roles WHERE rolname = $3), \
             EXISTS (SELECT FROM pg_roles WHERE rolname IN ($1, $3) AND rolsuper), \
             EXISTS (SELECT FROM pg_database WHERE datname = $4)",
            &[prepared_role, prepared_db, role, db],
        )
        .await?;
    let row = rows.first();
    let flag = |column: usize| row.is_some_and(|row| row.get(column));
    Ok(Seen {
        admin_is_superuser: flag(0),
        prepared_role: flag(1),
        prepared_db: flag(2),
        role: flag(3),
        role_is_superuser: flag(4),
        db: flag(5),
    })
}

/// Applies statements in one transaction and keeps their text, which holds a verifier, out of the server's log
/// where we may.
///
/// Three messages, sent without waiting in between. A server logs a message before it runs it (`log_statement`)
/// and after it has ended (`log_min_duration_statement`), so the settings must be made in an earlier one and end
/// in a later one. If the statements fail, `COMMIT` rolls back.
async fn apply_unlogged(
    client: &Client,
    action: &'static str,
    superuser: bool,
    statements: &[String],
) -> Result<(), PgError> {
    let begin = if superuser {
        "BEGIN; SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; \
         SET LOCAL log_min_duration_sample = -1; SET LOCAL log_min_error_statement = 'panic'"
    } else {
        "BEGIN"
    };
    let statements = statements.join("; ");
    let (begun, applied, committed) =
        futures::join!(client.batch(action, begin), client.batch(action, &statements), client.batch(action, "COMMIT"),);
    begun.and(applied).and(committed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram;

    fn planned(superuser: bool, seen: Seen) -> Result<Vec<String>, PgError> {
        let verifier = scram::verifier(&"x".into());
        let claim = Claim {
            prepared_role: "prepared_role",
            prepared_db: "prepared_db",
            role: "u_1",
            db: "pg_\"1",
            verifier: &verifier,
            superuser,
        };
        let statements = plan_claim(claim, seen)?;
        Ok(statements.into_iter().map(|sql| sql.replace(&verifier, "V")).collect())
    }

    const FRESH: Seen = Seen {
        admin_is_superuser: true,
        prepared_role: true,
        prepared_db: true,
        role: false,
        role_is_superuser: false,
        db: false,
    };
    const CLAIMED: Seen = Seen { prepared_role: false, prepared_db: false, role: true, db: true, ..FRESH };

    #[test]
    fn a_fresh_server_is_renamed_and_a_claimed_one_gets_its_password() {
        assert_eq!(
            planned(false, FRESH).expect("a plan"),
            [
                r#"ALTER ROLE "prepared_role" RENAME TO "u_1""#,
                r#"ALTER DATABASE "prepared_db" RENAME TO "pg_""1""#,
                r#"ALTER ROLE "u_1" LOGIN PASSWORD 'V'"#,
            ]
        );
        assert_eq!(planned(true, CLAIMED).expect("a plan"), [r#"ALTER ROLE "u_1" LOGIN SUPERUSER PASSWORD 'V'"#]);
        let above = Seen { role_is_superuser: true, ..CLAIMED };
        assert_eq!(planned(false, above).expect("a plan"), [r#"ALTER ROLE "u_1" LOGIN NOSUPERUSER PASSWORD 'V'"#]);
    }

    #[test]
    fn other_names_and_taken_names_are_told_apart() {
        let kept = planned(false, Seen { role: false, ..CLAIMED }).expect_err("no such role");
        assert_eq!(
            kept.to_string(),
            "role 'u_1' does not exist, nor does 'prepared_role' that would become it: \
             this data was set up under other names"
        );
        let taken = planned(false, Seen { db: true, ..FRESH }).expect_err("taken");
        assert_eq!(taken.to_string(), "database 'pg_\"1' is in the way");
    }

    #[test]
    fn a_clear_password_is_never_put_into_sql() {
        assert!(matches!(password_statement("ALTER", "r", "", "hunter2"), Err(PgError::NotAVerifier)));
    }
}
