//! Previews as rows.

use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// Where a preview stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewState {
    /// Its ensure, or its reset, has not ended.
    Creating,
    /// It can be used.
    Ready,
    /// Its delete has not ended.
    Deleting,
    /// It cannot be used; the reason stands beside it. The next ensure mends it.
    Broken,
}

impl PreviewState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
            Self::Broken => "broken",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "creating" => Self::Creating,
            "ready" => Self::Ready,
            "deleting" => Self::Deleting,
            _ => Self::Broken,
        }
    }
}

/// Which password a role has, told without telling it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PasswordMark {
    /// A digest of the password that was set.
    pub fingerprint: Option<String>,
    /// The salt of the verifier that was set, which the server tells whoever begins a login.
    pub salt: Option<String>,
}

/// How long a preview lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Nobody has said anything.
    Unsaid,
    /// Until the sweeper deletes it.
    Until(Timestamp),
    /// Somebody wants it kept, whatever the default becomes.
    Forever,
}

impl Lifetime {
    /// When the sweeper deletes it.
    pub fn end(self) -> Option<Timestamp> {
        if let Self::Until(at) = self { Some(at) } else { None }
    }
}

/// One preview.
#[derive(Debug, Clone)]
pub struct PreviewRecord {
    /// Ours, for its whole life.
    pub id: String,
    /// The server that it is on.
    pub target: String,
    /// The template that it is cloned from.
    pub template: String,
    /// The pull request's number.
    pub number: u64,
    /// Database.
    pub db: String,
    /// The role that owns what is in it.
    pub role: String,
    /// Where it stands.
    pub state: PreviewState,
    /// Why it is broken.
    pub reason: Option<String>,
    /// Whether somebody still has to be told that it was created.
    pub news: bool,
    /// Whether a delete is refused.
    pub protected: bool,
    /// Notes.
    pub labels: BTreeMap<String, String>,
    /// The generation of the template.
    pub generation: u64,
    /// Its role's password.
    pub mark: PasswordMark,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last asked for.
    pub used_at: Timestamp,
    /// How long it lives.
    pub lifetime: Lifetime,
}

impl PreviewRecord {
    /// Its subject in operations and the audit log.
    pub fn subject(&self) -> String {
        subject(&self.target, &self.db)
    }
}

/// The subject of the preview with this database.
pub fn subject(target: &str, db: &str) -> String {
    format!("preview/{target}/{db}")
}

const COLUMNS: &str = "id, target, template, number, db, role, state, reason, news, protected, labels, generation, \
                       fingerprint, salt, created_at, used_at, expires_at, forever";

/// Writes a new preview.
pub fn insert(connection: &Connection, preview: &PreviewRecord) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO previews ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
         ?16, ?17, ?18)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        preview.id,
        preview.target,
        preview.template,
        preview.number,
        preview.db,
        preview.role,
        preview.state.as_str(),
        preview.reason,
        preview.news,
        preview.protected,
        labels_text(&preview.labels),
        preview.generation,
        preview.mark.fingerprint,
        preview.mark.salt,
        micros(preview.created_at),
        micros(preview.used_at),
        preview.lifetime.end().map(micros),
        preview.lifetime == Lifetime::Forever
    ])?;
    Ok(())
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).unwrap_or_else(|_| "{}".to_owned())
}

/// The preview with this database.
pub fn by_db(connection: &Connection, target: &str, db: &str) -> Result<Option<PreviewRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM previews WHERE target = ?1 AND db = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([target, db], read).optional()?)
}

/// Every preview, by template and number.
pub fn all(connection: &Connection) -> Result<Vec<PreviewRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM previews ORDER BY target, template, number");
    Ok(connection.prepare(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The databases of the previews on a server, by template and number.
pub fn on(connection: &Connection, target: &str) -> Result<Vec<String>, Problem> {
    let sql = "SELECT db FROM previews WHERE target = ?1 ORDER BY template, number";
    Ok(connection.prepare_cached(sql)?.query_map([target], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Those of them that a delete is refused of.
pub fn protected_on(connection: &Connection, target: &str) -> Result<Vec<String>, Problem> {
    let sql = "SELECT db FROM previews WHERE target = ?1 AND protected ORDER BY template, number";
    Ok(connection.prepare_cached(sql)?.query_map([target], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Previews whose time is over and that may be deleted, the longest overdue first.
pub fn expired(connection: &Connection, now: Timestamp, at_most: u32) -> Result<Vec<PreviewRecord>, Problem> {
    let sql =
        format!("SELECT {COLUMNS} FROM previews WHERE expires_at <= ?1 AND protected = 0 ORDER BY expires_at LIMIT ?2");
    Ok(connection.prepare(&sql)?.query_map(params![micros(now), at_most], read)?.collect::<Result<_, _>>()?)
}

/// When the next preview that may be deleted expires.
pub fn next_expiry(connection: &Connection) -> Result<Option<Timestamp>, Problem> {
    let sql = "SELECT min(expires_at) FROM previews WHERE expires_at IS NOT NULL AND protected = 0 \
               AND state <> 'deleting'";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(from_micros))
}

/// Previews that are half made or half removed, and nobody is at it.
pub fn unsettled(connection: &Connection) -> Result<Vec<PreviewRecord>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM previews WHERE state IN ('creating', 'deleting') AND NOT EXISTS (SELECT 1 FROM operations \
         WHERE subject = 'preview/' || target || '/' || db AND operations.state IN ('pending', 'running', 'undoing'))"
    );
    Ok(connection.prepare_cached(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The numbers of a template's previews, the newest first.
pub fn numbers(connection: &Connection, target: &str, template: &str) -> Result<Vec<u64>, Problem> {
    let sql = "SELECT number FROM previews WHERE target = ?1 AND template = ?2 ORDER BY created_at DESC";
    Ok(connection.prepare_cached(sql)?.query_map([target, template], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// How many previews a template has.
pub fn count(connection: &Connection, target: &str, template: &str) -> Result<u32, Problem> {
    let sql = "SELECT count(*) FROM previews WHERE target = ?1 AND template = ?2";
    Ok(connection.prepare_cached(sql)?.query_row([target, template], |row| row.get(0))?)
}

/// Notes where a preview stands, and why.
pub fn set_state(connection: &Connection, id: &str, state: PreviewState, reason: Option<&str>) -> Result<(), Problem> {
    let sql = "UPDATE previews SET state = ?2, reason = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, state.as_str(), reason])?;
    Ok(())
}

/// Notes that a preview can be used.
pub fn set_ready(connection: &Connection, id: &str, ready: &Ready) -> Result<(), Problem> {
    let sql = "UPDATE previews SET state = 'ready', reason = NULL, news = news OR ?2, generation = ?3, \
               fingerprint = ?4, salt = ?5 WHERE id = ?1";
    let (fingerprint, salt) = (&ready.mark.fingerprint, &ready.mark.salt);
    connection.prepare_cached(sql)?.execute(params![id, ready.news, ready.generation, fingerprint, salt])?;
    Ok(())
}

/// What is known of a preview once it can be used.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Whether whoever asks next has to be told that it was created.
    pub news: bool,
    /// The generation of the template.
    pub generation: u64,
    /// Its role's password.
    pub mark: PasswordMark,
}

/// Takes the news that a preview was created: true for exactly one of all who ask.
pub fn take_news(connection: &Connection, id: &str) -> Result<bool, Problem> {
    let sql = "UPDATE previews SET news = 0 WHERE id = ?1 AND news = 1";
    Ok(connection.prepare_cached(sql)?.execute([id])? == 1)
}

/// Gives them back: who took them had nobody to tell.
pub fn put_news_back(connection: &Connection, id: &str) -> Result<(), Problem> {
    connection.prepare_cached("UPDATE previews SET news = 1 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Notes that a preview was asked for, until when it lives, and its labels where new ones are given.
pub fn touch(
    connection: &Connection,
    id: &str,
    used_at: Timestamp,
    lifetime: Lifetime,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<(), Problem> {
    let sql = "UPDATE previews SET used_at = ?2, expires_at = ?3, forever = ?4, labels = coalesce(?5, labels) \
               WHERE id = ?1";
    let forever = lifetime == Lifetime::Forever;
    let values = params![id, micros(used_at), lifetime.end().map(micros), forever, labels.map(labels_text)];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Locks a preview against a delete, or unlocks it.
pub fn set_protected(connection: &Connection, id: &str, protected: bool) -> Result<(), Problem> {
    connection.execute("UPDATE previews SET protected = ?2 WHERE id = ?1", params![id, protected])?;
    Ok(())
}

/// Forgets a preview.
pub fn delete(connection: &Connection, target: &str, db: &str) -> Result<(), Problem> {
    connection.prepare_cached("DELETE FROM previews WHERE target = ?1 AND db = ?2")?.execute([target, db])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<PreviewRecord> {
    Ok(PreviewRecord {
        id: row.get("id")?,
        target: row.get("target")?,
        template: row.get("template")?,
        number: row.get("number")?,
        db: row.get("db")?,
        role: row.get("role")?,
        state: PreviewState::parse(&row.get::<_, String>("state")?),
        reason: row.get("reason")?,
        news: row.get("news")?,
        protected: row.get("protected")?,
        labels: serde_json::from_str(&row.get::<_, String>("labels")?).unwrap_or_default(),
        generation: row.get("generation")?,
        mark: PasswordMark { fingerprint: row.get("fingerprint")?, salt: row.get("salt")? },
        created_at: from_micros(row.get("created_at")?),
        used_at: from_micros(row.get("used_at")?),
        lifetime: match row.get::<_, Option<i64>>("expires_at")? {
            _ if row.get("forever")? => Lifetime::Forever,
            Some(at) => Lifetime::Until(from_micros(at)),
            None => Lifetime::Unsaid,
        },
    })
}
