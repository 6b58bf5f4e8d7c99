//! Making, checking and revoking tokens.
//!
//! A token is `pgdb_ID_SECRET`. Its text is hashed with SHA-256 and kept; 258 random bits need no slow hash (ADR 4).
//! Those that work are in memory, so that a request costs no read from the state file.

use super::Bootstrap;
use crate::problem::Problem;
use crate::store::Store;
use jiff::{SignedDuration, Timestamp};
use pgdb_api::tokens::{CreateToken, CreatedToken, TokenInfo};
use pgdb_core::id::TokenId;
use pgdb_core::random::{self, Entropy};
use pgdb_core::scope::{Scope, Scopes};
use pgdb_core::time::Clock;
use rusqlite::{Connection, OptionalExtension, Row, params};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use subtle::ConstantTimeEq;

const COLUMNS: &str = "id, name, scopes, created_at, expires_at, revoked_at";

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A token's id, or which bootstrap token.
    pub actor: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Whether the token is beyond guessing.
    pub strong: bool,
}

/// The tokens that work.
pub struct Tokens {
    store: Store,
    bootstrap: Vec<Bootstrap>,
    active: RwLock<HashMap<String, Active>>,
}

struct Active {
    hash: [u8; 32],
    scopes: Scopes,
    expires_at: Option<Timestamp>,
    /// The same on the clock that never goes backwards: a wall clock that is set back prolongs no token.
    deadline_ms: Option<u64>,
}

impl Active {
    fn new(hash: [u8; 32], scopes: Scopes, expires_at: Option<Timestamp>, clock: &dyn Clock) -> Self {
        let deadline_ms = expires_at.map(|at| {
            let left = at.duration_since(clock.now()).as_millis().max(0);
            clock.monotonic_ms().saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
        });
        Self { hash, scopes, expires_at, deadline_ms }
    }

    fn expired(&self, clock: &dyn Clock) -> bool {
        self.expires_at.is_some_and(|at| clock.now() >= at)
            || self.deadline_ms.is_some_and(|at| clock.monotonic_ms() >= at)
    }
}

impl Tokens {
    /// Reads the tokens that work.
    pub async fn load(store: Store, bootstrap: Vec<Bootstrap>, clock: &dyn Clock) -> Result<Self, Problem> {
        let rows = store
            .read(|connection| {
                let mut statement =
                    connection.prepare("SELECT id, hash, scopes, expires_at FROM tokens WHERE revoked_at IS NULL")?;
                let rows = statement.query_map([], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, [u8; 32]>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, Option<i64>>(3)?,
                    ))
                })?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        let mut active = HashMap::new();
        for (id, hash, scopes, expires_at) in rows {
            let expires_at = expires_at.map(time).transpose()?;
            active.insert(id, Active::new(hash, Scopes::from_text(&scopes), expires_at, clock));
        }
        Ok(Self { store, bootstrap, active: RwLock::new(active) })
    }

    /// Whose token a text is; `None` when it works for nobody.
    pub fn verify(&self, text: &str, clock: &dyn Clock) -> Option<Identity> {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if let Some(id) = token_id(text) {
            let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(token) = active.get(id.as_str())
                && bool::from(token.hash.ct_eq(&hash))
                && !token.expired(clock)
            {
                return Some(Identity { actor: id.to_string(), scopes: token.scopes.clone(), strong: true });
            }
        }
        // Every one is compared, so that the time does not tell which one it was.
        let matches: Vec<&Bootstrap> = self.bootstrap.iter().filter(|token| token.hash.ct_eq(&hash).into()).collect();
        let first = matches.first()?;
        let scopes = matches.iter().flat_map(|token| token.scopes.as_slice().iter().copied());
        Some(Identity { actor: format!("bootstrap:{}", first.name), scopes: Scopes::new(scopes), strong: first.strong })
    }

    /// Makes a token for somebody who has `own` scopes.
    pub async fn create(
        &self,
        own: &Scopes,
        wanted: CreateToken,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<CreatedToken, Problem> {
        let name = wanted.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err(Problem::invalid("invalid_token_name", "name: 1 to 100 characters, no control characters"));
        }
        let scopes = grantable(own, &wanted.scopes)?;
        let now = clock.now();
        let created_at = now.as_microsecond();
        let expires_at = wanted.expires_in_seconds.map(|seconds| expiry(now, seconds)).transpose()?;
        let id = TokenId::generate(clock, entropy);
        let secret = random::secret(entropy);
        let bare = id.as_str().trim_start_matches("tk_");
        let text = format!("pgdb_{bare}_{}", secret.expose_secret());
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();

        let row = (id.to_string(), name.clone(), scopes.to_text());
        let expires_us = expires_at.map(|at| at.as_microsecond());
        self.store
            .write(move |connection| {
                let sql = "INSERT INTO tokens (id, name, hash, scopes, created_at, expires_at)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                connection.execute(sql, params![row.0, row.1, hash, row.2, created_at, expires_us])?;
                Ok(())
            })
            .await?;
        let active = Active::new(hash, scopes.clone(), expires_at, clock);
        self.active.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), active);
        let info = TokenInfo {
            id: id.to_string(),
            name,
            scopes: words(&scopes),
            created_at: time(created_at)?,
            expires_at,
            revoked_at: None,
        };
        Ok(CreatedToken { token: text, info })
    }

    /// All tokens, the newest first.
    pub async fn list(&self) -> Result<Vec<TokenInfo>, Problem> {
        self.store
            .read(|connection| {
                let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM tokens ORDER BY id DESC"))?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(info(row)?);
                }
                Ok(found)
            })
            .await
    }

    /// Makes a token stop working at once. Once more changes nothing.
    pub async fn revoke(&self, id: &TokenId, clock: &dyn Clock) -> Result<TokenInfo, Problem> {
        let (key, at) = (id.to_string(), clock.now().as_microsecond());
        let revoked = self
            .store
            .write(move |connection| {
                connection.execute(
                    "UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                    params![key, at],
                )?;
                find(connection, &key)?.ok_or_else(unknown)
            })
            .await?;
        self.active.write().unwrap_or_else(PoisonError::into_inner).remove(id.as_str());
        Ok(revoked)
    }
}

/// The problem of a token that is not there.
pub(super) fn unknown() -> Problem {
    Problem::not_found("token_not_found", "there is no token with this id; `pgdb token list` shows all")
}

/// The id in a token's text.
fn token_id(text: &str) -> Option<TokenId> {
    let (bare, _) = text.strip_prefix("pgdb_")?.split_once('_')?;
    TokenId::parse(&format!("tk_{bare}"))
}

fn grantable(own: &Scopes, wanted: &[String]) -> Result<Scopes, Problem> {
    let mut scopes = Vec::new();
    for word in wanted {
        let scope = Scope::parse(word).ok_or_else(|| {
            let word: String = word.chars().take(40).collect();
            Problem::invalid("unknown_scope", format!("scopes: '{word}' is unknown; see the scopes of POST /v1/tokens"))
        })?;
        if !own.allow(scope) {
            return Err(Problem::forbidden(format!("you cannot grant the scope {word}, for you do not have it")));
        }
        scopes.push(scope);
    }
    if scopes.is_empty() {
        return Err(Problem::invalid("unknown_scope", "scopes: name at least one"));
    }
    Ok(Scopes::new(scopes))
}

fn expiry(now: Timestamp, seconds: u64) -> Result<Timestamp, Problem> {
    const HUNDRED_YEARS: u64 = 3_153_600_000;
    let refused = || Problem::invalid("invalid_expiry", "expires_in_seconds: from 1 to 3153600000 (100 years)");
    let seconds = i64::try_from(seconds).ok().filter(|_| (1..=HUNDRED_YEARS).contains(&seconds)).ok_or_else(refused)?;
    let at = now.checked_add(SignedDuration::from_secs(seconds)).map_err(|_| refused())?;
    // As it is stored, so that what is answered now and later is the same.
    time(at.as_microsecond())
}

fn find(connection: &Connection, id: &str) -> Result<Option<TokenInfo>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1");
    connection.query_row(&sql, [id], |row| Ok(info(row))).optional()?.transpose()
}

fn info(row: &Row<'_>) -> Result<TokenInfo, Problem> {
    let optional = |index| row.get::<_, Option<i64>>(index)?.map(time).transpose();
    Ok(TokenInfo {
        id: row.get(0)?,
        name: row.get(1)?,
        scopes: words(&Scopes::from_text(&row.get::<_, String>(2)?)),
        created_at: time(row.get(3)?)?,
        expires_at: optional(4)?,
        revoked_at: optional(5)?,
    })
}

fn words(scopes: &Scopes) -> Vec<String> {
    scopes.as_slice().iter().map(|scope| scope.as_str().to_owned()).collect()
}

fn time(micros: i64) -> Result<Timestamp, Problem> {
    Timestamp::from_microsecond(micros).map_err(|error| Problem::internal(format!("a stored time is wrong: {error}")))
}
