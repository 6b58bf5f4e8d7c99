//! What an administrator does for previews once: the operator, the roles that it works with, and a template.

use crate::connect::Client;
use crate::error::PgError;
use crate::handover::{self, Strangers, role_exists};
use crate::quote::{identifier, literal};
use crate::scram::is_verifier;
use crate::swap;

/// Sees to it that the operator is there and can log in with a password. Returns what was done, if anything.
///
/// `works` says whether the password does already; one that does is not set again.
pub async fn ensure_operator(
    admin: &Client,
    operator: &str,
    verifier: &str,
    works: bool,
) -> Result<Option<String>, PgError> {
    if !is_verifier(verifier) {
        return Err(PgError::NotAVerifier);
    }
    let (quoted, verifier) = (identifier(operator)?, literal(verifier)?);
    let there = role_exists(admin, operator).await?;
    if works && there {
        return Ok(None);
    }
    let (verb, rights, told) = if there {
        ("ALTER", "LOGIN", format!("the password of the operator '{operator}' was set"))
    } else {
        ("CREATE", "LOGIN CREATEDB CREATEROLE", format!("the operator '{operator}' was made"))
    };
    admin.batch("make the operator", &format!("{verb} ROLE {quoted} {rights} PASSWORD {verifier}")).await?;
    Ok(Some(told))
}

/// Sees to it that there is a role that nobody logs in as.
pub async fn ensure_group(admin: &Client, role: &str) -> Result<Option<String>, PgError> {
    if role_exists(admin, role).await? {
        return Ok(None);
    }
    handover::ensure_group(admin, role).await?;
    Ok(Some(format!("the role '{role}' was made")))
}

/// Sees to it that there is a role that people look into previews with. Its password is theirs to set.
pub async fn ensure_dev(admin: &Client, role: &str) -> Result<Option<String>, PgError> {
    if role_exists(admin, role).await? {
        return Ok(None);
    }
    handover::ensure_dev(admin, role).await?;
    Ok(Some(format!("the role '{role}' was made; it has no password yet")))
}

/// Lets the operator act as roles that it has not made itself, and hand them on. Before PostgreSQL 16 whoever may create
/// roles may do that.
pub async fn ensure_admin_of(admin: &Client, operator: &str, roles: &[String]) -> Result<Vec<String>, PgError> {
    let mut done = Vec::new();
    if admin.major() < 16 {
        return Ok(done);
    }
    for role in roles {
        let sql = "SELECT pg_has_role($2, $1, 'USAGE WITH ADMIN OPTION') AND pg_has_role($2, $1, 'SET')";
        let rows = admin.query("look at the operator's roles", sql, &[role, operator]).await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            continue;
        }
        let sql =
            format!("GRANT {} TO {} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE", identifier(role)?, identifier(operator)?);
        admin.batch("let the operator act as the role", &sql).await?;
        done.push(format!("the operator may act as '{role}', and drop it"));
    }
    Ok(done)
}

/// Sees to it that there is a template that the operator may copy.
pub async fn ensure_template(admin: &Client, template: &str, owner: &str) -> Result<Option<String>, PgError> {
    match swap::owner(admin, template).await? {
        Some(found) if found == owner => Ok(None),
        Some(_) => {
            swap::set_owner(admin, template, owner).await?;
            Ok(Some(format!("the template '{template}' was given to '{owner}'")))
        }
        None => {
            swap::create_database(admin, template, owner).await?;
            Ok(Some(format!("an empty template '{template}' was made")))
        }
    }
}

/// Gives everything in the template, whose session `inside` is an administrator's, to its holder.
pub async fn give_all(inside: &Client, holder: &str) -> Result<Vec<String>, PgError> {
    let before = handover::strangers_to(inside, holder).await?;
    let given = handover::give_to_holder(inside, holder).await?;
    let owners = handover::extension_owners(inside, holder).await?;
    handover::give_extensions(inside, holder, &owners).await?;
    match given {
        Ok(()) if before.is_empty() => Ok(vec![]),
        Ok(()) => Ok(vec![format!("{} objects of the template were given to '{holder}'", before.len())]),
        // Of a superuser nothing is strange.
        Err(Strangers(left)) => Ok(vec![format!("{} objects of the template are still others'", left.len())]),
    }
}
