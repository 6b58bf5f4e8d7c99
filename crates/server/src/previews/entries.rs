//! Entries of the warm pool as rows.
//!
//! An entry's row is there before its database is and until it is gone, so that nothing of it is ever forgotten. The
//! row of an entry that was handed out is removed by the commit that makes the preview ready.

use super::record::PasswordMark;
use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// It is being made.
    Making,
    /// It can be handed out.
    Ready,
    /// An operation is handing it out.
    Taken,
    /// It is being dropped.
    Dropping,
}

impl EntryRecord {
    /// Whether the preview with this database has taken it.
    pub fn is_taken_by(&self, preview_db: &str) -> bool {
        self.state == EntryState::Taken && self.taken_by.as_deref() == Some(preview_db)
    }
}

impl EntryState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Taken => "taken",
            Self::Dropping => "dropping",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "making" => Self::Making,
            "ready" => Self::Ready,
            "taken" => Self::Taken,
            _ => Self::Dropping,
        }
    }
}

/// One clone that was made ahead.
#[derive(Debug, Clone)]
pub struct EntryRecord {
    /// The server.
    pub target: String,
    /// Its database.
    pub db: String,
    /// Its role.
    pub role: String,
    /// Its template.
    pub template: String,
    /// The template's generation.
    pub generation: u64,
    /// Where it stands.
    pub state: EntryState,
    /// The database of the preview that it is being handed out to.
    pub taken_by: Option<String>,
    /// The number whose password its role has.
    pub number: Option<u64>,
    /// That password.
    pub mark: PasswordMark,
    /// When it was asked for.
    pub made_at: Timestamp,
}

const COLUMNS: &str = "target, db, role, template, generation, state, taken_by, number, fingerprint, salt, made_at";

/// Writes a new entry.
pub fn insert(connection: &Connection, entry: &EntryRecord) -> Result<(), Problem> {
    let sql = format!("INSERT INTO preview_pool ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
    connection.prepare_cached(&sql)?.execute(params![
        entry.target,
        entry.db,
        entry.role,
        entry.template,
        entry.generation,
        entry.state.as_str(),
        entry.taken_by,
        entry.number,
        entry.mark.fingerprint,
        entry.mark.salt,
        micros(entry.made_at)
    ])?;
    Ok(())
}

/// Every entry, the oldest first.
pub fn all(connection: &Connection) -> Result<Vec<EntryRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM preview_pool ORDER BY made_at, db");
    Ok(connection.prepare(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// One entry.
pub fn find(connection: &Connection, target: &str, db: &str) -> Result<Option<EntryRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM preview_pool WHERE target = ?1 AND db = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([target, db], read).optional()?)
}

/// Marks an entry that can be handed out as taken by the preview with this database.
pub fn take(connection: &Connection, (target, db): (&str, &str), preview_db: &str) -> Result<(), Problem> {
    let sql =
        "UPDATE preview_pool SET state = 'taken', taken_by = ?3 WHERE target = ?1 AND db = ?2 AND state = 'ready'";
    connection.prepare_cached(sql)?.execute([target, db, preview_db])?;
    Ok(())
}

/// Puts an entry back that this preview has taken and not used.
pub fn release(connection: &Connection, (target, db): (&str, &str), preview_db: &str) -> Result<(), Problem> {
    let sql = "UPDATE preview_pool SET state = 'ready', taken_by = NULL \
               WHERE target = ?1 AND db = ?2 AND state = 'taken' AND taken_by = ?3";
    connection.prepare_cached(sql)?.execute([target, db, preview_db])?;
    Ok(())
}

/// Marks an entry as one that is being removed.
pub fn set_dropping(connection: &Connection, (target, db): (&str, &str)) -> Result<(), Problem> {
    let sql = "UPDATE preview_pool SET state = 'dropping' WHERE target = ?1 AND db = ?2";
    connection.prepare_cached(sql)?.execute([target, db])?;
    Ok(())
}

/// The best entry for a number: one that has its password already, else one whose number has passed, else the one
/// whose number is farthest off.
pub fn pick(
    connection: &Connection,
    (target, template): (&str, &str),
    generation: u64,
    number: u64,
) -> Result<Option<EntryRecord>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM preview_pool WHERE target = ?1 AND template = ?2 AND generation = ?3 AND state = 'ready' \
         ORDER BY number IS NOT ?4, number > ?4, abs(number - ?4) DESC LIMIT 1"
    );
    let found = connection.prepare_cached(&sql)?.query_row(params![target, template, generation, number], read);
    Ok(found.optional()?)
}

/// Forgets whose password an entry's role has, because it is about to change.
pub fn unaim(connection: &Connection, target: &str, db: &str) -> Result<bool, Problem> {
    let sql = "UPDATE preview_pool SET number = NULL, fingerprint = NULL, salt = NULL \
               WHERE target = ?1 AND db = ?2 AND state = 'ready'";
    Ok(connection.prepare_cached(sql)?.execute([target, db])? == 1)
}

/// Notes whose password an entry's role has. One that is no longer ready stays as it is.
pub fn aim(
    connection: &Connection,
    (target, db): (&str, &str),
    number: u64,
    mark: &PasswordMark,
) -> Result<(), Problem> {
    let sql = "UPDATE preview_pool SET number = ?3, fingerprint = ?4, salt = ?5 \
               WHERE target = ?1 AND db = ?2 AND state = 'ready'";
    connection.prepare_cached(sql)?.execute(params![target, db, number, mark.fingerprint, mark.salt])?;
    Ok(())
}

/// Notes that an entry can be handed out, and whose password its role has.
pub fn set_ready(
    connection: &Connection,
    (target, db): (&str, &str),
    number: u64,
    mark: &PasswordMark,
) -> Result<(), Problem> {
    let sql = "UPDATE preview_pool SET state = 'ready', number = ?3, fingerprint = ?4, salt = ?5 \
               WHERE target = ?1 AND db = ?2";
    connection.prepare_cached(sql)?.execute(params![target, db, number, mark.fingerprint, mark.salt])?;
    Ok(())
}

/// Forgets an entry that was handed out to this preview.
pub fn delete_taken(connection: &Connection, (target, db): (&str, &str), preview_db: &str) -> Result<(), Problem> {
    let sql = "DELETE FROM preview_pool WHERE target = ?1 AND db = ?2 AND state = 'taken' AND taken_by = ?3";
    connection.prepare_cached(sql)?.execute([target, db, preview_db])?;
    Ok(())
}

/// Forgets an entry.
pub fn delete(connection: &Connection, target: &str, db: &str) -> Result<(), Problem> {
    connection.prepare_cached("DELETE FROM preview_pool WHERE target = ?1 AND db = ?2")?.execute([target, db])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<EntryRecord> {
    Ok(EntryRecord {
        target: row.get("target")?,
        db: row.get("db")?,
        role: row.get("role")?,
        template: row.get("template")?,
        generation: row.get("generation")?,
        state: EntryState::parse(&row.get::<_, String>("state")?),
        taken_by: row.get("taken_by")?,
        number: row.get("number")?,
        mark: PasswordMark { fingerprint: row.get("fingerprint")?, salt: row.get("salt")? },
        made_at: from_micros(row.get("made_at")?),
    })
}
