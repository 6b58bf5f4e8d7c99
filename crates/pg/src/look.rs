//! One cheap look at everything that an ensure has to know.

use crate::connect::Client;
use crate::error::PgError;

/// A template, a database and a role as they are at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The template, if there is a database of its name.
    pub template: Option<SeenTemplate>,
    /// The database.
    pub database: Option<SeenDatabase>,
    /// The role.
    pub role: Option<SeenRole>,
}

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenTemplate {
    /// PostgreSQL's number of it.
    pub oid: u32,
    /// Whether sessions are let in, so that it may change and cannot be copied.
    pub open: bool,
}

/// A database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenDatabase {
    /// Whether it is whole; the rest of a half-done drop is not.
    pub valid: bool,
    /// Whether sessions are let in.
    pub open: bool,
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRole {
    /// Whether it may log in.
    pub can_login: bool,
}

const LOOK: &str = "SELECT t.oid::text, t.datallowconn::text, d.datconnlimit::text, d.datallowconn::text, \
     r.rolcanlogin::text FROM (SELECT) one LEFT JOIN pg_database t ON t.datname = $1 \
     LEFT JOIN pg_database d ON d.datname = $2 LEFT JOIN pg_roles r ON r.rolname = $3";

/// Looks at a template, a database and a role in one round trip.
pub async fn look(client: &Client, template: &str, database: &str, role: &str) -> Result<Seen, PgError> {
    let rows = client.query("look for the preview", LOOK, &[template, database, role]).await?;
    let Some(row) = rows.first() else { return Ok(Seen::default()) };
    let text = |index: usize| row.get::<_, Option<&str>>(index);
    let yes = |index: usize| text(index) == Some("true");
    Ok(Seen {
        template: text(0).and_then(|oid| Some(SeenTemplate { oid: oid.parse().ok()?, open: yes(1) })),
        database: text(2).map(|limit| SeenDatabase { valid: limit != "-2", open: yes(3) }),
        role: text(4).map(|_| SeenRole { can_login: yes(4) }),
    })
}
