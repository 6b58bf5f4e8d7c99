//! A database that is made for a moment, beside the one that it is compared with.
//!
//! Its name comes from that one's number, and a session in that one holds a lock as long as it is in use. So when we are
//! killed the lock goes with the session, and whoever makes the next one finds the rest by its name and drops it. So it
//! does with those that belong to other databases, whose checks were killed too: ours by name and comment, and in use by
//! nobody.

use crate::connect::Client;
use crate::error::PgError;
use crate::handover::make_settings;
use crate::quote::{identifier, literal};
use crate::swap::drop_database;
use std::time::Duration;
use tokio::time;

/// What the names begin with.
const PREFIX: &str = "pgdb_drift_";
/// What is written on each, so that a database of somebody else's is never taken for one.
const COMMENT: &str = "made by pgdb for a drift check, and dropped with it";
/// The lock's number in the target database.
const LOCK: &str = "1885824098, 1685219686";
const POLL: Duration = Duration::from_millis(100);

/// A scratch database. It has to be given back with [`Scratch::remove`].
#[derive(Debug)]
pub struct Scratch {
    name: String,
}

impl Scratch {
    /// Waits until no other session has one.
    pub async fn take_turn(client: &Client) -> Result<(), PgError> {
        let sql = format!("SELECT pg_try_advisory_lock({LOCK})::text");
        let ask = async || Ok::<_, PgError>(client.first_value("wait for another drift check", &sql).await?.flatten());
        while ask().await?.as_deref() != Some("true") {
            time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes one, of the encoding, locale, owner and settings of the database that `client` is in, which has taken its
    /// turn. What an earlier one left is dropped.
    ///
    /// Needs the right to create databases. [`PgError::InTheWay`] when the name is taken by what is not ours.
    pub async fn make(client: &Client) -> Result<Self, PgError> {
        let made = Self::make_in_turn(client).await;
        if made.is_err() {
            end_turn(client).await;
        }
        made
    }

    async fn make_in_turn(client: &Client) -> Result<Self, PgError> {
        // An owner that we may not act as cannot be given a database; then it is our own.
        let option = if client.major() >= 16 { "SET" } else { "MEMBER" };
        let sql = format!(
            "SELECT d.oid::text, datname::text, pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, \
             to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), \
             CASE WHEN pg_has_role(datdba, '{option}') THEN pg_get_userbyid(datdba)::text ELSE current_user::text END \
             FROM pg_database d WHERE datname = current_database()"
        );
        let rows = client.query("look at the database", &sql, &[]).await?;
        let Some(row) = rows.first() else {
            return Err(PgError::Missing { kind: "database", name: "the present".to_owned(), hint: String::new() });
        };
        let text = |index: usize| row.get::<_, Option<String>>(index).unwrap_or_default();
        let (name, target) = (format!("{PREFIX}{}", text(0)), text(1));
        drop_leftover(client, &name).await?;
        drop_strays(client).await;
        let create = create(&name, &[text(2), text(3), text(4), text(5), text(6), text(7)])?;
        client.batch("create a scratch database", &create).await?;
        let scratch = Self { name };
        let furnished = async {
            let comment = format!("COMMENT ON DATABASE {} IS {}", identifier(&scratch.name)?, literal(COMMENT)?);
            client.batch("mark the scratch database", &comment).await?;
            make_settings(client, &target, &scratch.name).await
        };
        if let Err(error) = furnished.await {
            // The failure that brought us here is the one to tell.
            let _ = drop_database(client, &scratch.name).await;
            return Err(error);
        }
        Ok(scratch)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it and lets the next one be made. `client` is the one that it was made with.
    pub async fn remove(self, client: &Client) -> Result<(), PgError> {
        let dropped = drop_database(client, &self.name).await;
        end_turn(client).await;
        dropped
    }
}

async fn end_turn(client: &Client) {
    // A session that is lost has let go of it.
    let _ = client.query("let go of the lock", &format!("SELECT pg_advisory_unlock({LOCK})::text"), &[]).await;
}

/// Drops what an earlier one left, if it is that: it bears our comment, or none, for we may have been killed before.
async fn drop_leftover(client: &Client, name: &str) -> Result<(), PgError> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let rows = client.query("look for an earlier scratch database", sql, &[name]).await?;
    match rows.first().map(|row| row.get::<_, Option<String>>(0)) {
        None => Ok(()),
        Some(Some(comment)) if comment != COMMENT => Err(PgError::InTheWay { kind: "database", name: name.to_owned() }),
        Some(_) => drop_database(client, name).await,
    }
}

/// Drops what killed checks of other databases have left, as far as we may. Failing at that is nobody's concern.
async fn drop_strays(client: &Client) {
    // A check holds the lock in the database that its scratch is named after, and has sessions in it while it works.
    let sql = format!(
        "SELECT d.datname::text FROM pg_database d WHERE d.datname ~ '^{PREFIX}[0-9]+$' \
         AND shobj_description(d.oid, 'pg_database') = {} AND pg_has_role(d.datdba, 'USAGE') \
         AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid) \
         AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 \
           AND (l.classid::text || ', ' || l.objid::text) = '{LOCK}' \
           AND l.database::text = substr(d.datname::text, length('{PREFIX}') + 1))",
        literal(COMMENT).unwrap_or_default()
    );
    let strays = client.query("look for what killed checks left", &sql, &[]).await.unwrap_or_default();
    for name in strays.iter().map(|row| row.get::<_, &str>(0)) {
        // Without force: should somebody use it after all, it stays.
        let Ok(quoted) = identifier(name) else { continue };
        if let Err(error) = client.batch("drop what a killed check left", &format!("DROP DATABASE {quoted}")).await {
            tracing::debug!(%error, name, "what a killed drift check left stays");
        }
    }
}

/// The statement that makes it. `like` is encoding, collation, character type, provider, locale and owner.
fn create(name: &str, like: &[String; 6]) -> Result<String, PgError> {
    let [encoding, collate, ctype, provider, locale, owner] = like;
    let mut sql = format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        identifier(name)?,
        identifier(owner)?,
        literal(encoding)?,
        literal(collate)?,
        literal(ctype)?
    );
    match provider.as_str() {
        "i" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale)?)),
        "b" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale)?)),
        _ => {}
    }
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_like_the_other_database() {
        let like =
            |provider: &str, locale: &str| ["UTF8", "C.UTF-8", "C", provider, locale, "O\"wner"].map(str::to_owned);
        assert_eq!(
            create("pgdb_drift_5", &like("c", "")).expect("names"),
            "CREATE DATABASE \"pgdb_drift_5\" OWNER \"O\"\"wner\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' \
             LC_CTYPE 'C'"
        );
        assert!(create("x", &like("i", "de-AT")).expect("names").ends_with("LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'"));
        assert!(create("x", &like("b", "C.UTF-8")).expect("names").ends_with("builtin BUILTIN_LOCALE 'C.UTF-8'"));
    }
}
