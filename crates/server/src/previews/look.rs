//! The one look at PostgreSQL that an ensure of what is there takes.

use super::record::PasswordMark;
use super::service::{Place, PreviewService};
use crate::instances::world::pg;
use crate::operations::{StepError, step_problem};
use crate::problem::Problem;
use pgdb_pg::challenge::{Challenge, challenge};
use pgdb_pg::look::{Seen, SeenDatabase, SeenRole, SeenTemplate, look};
use std::time::Duration;

/// How long a server may take to begin a login.
const CHALLENGE: Duration = Duration::from_secs(5);
/// How long an ensure waits for a server that is being restarted.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a server holds of a preview.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its template.
    pub template: Option<SeenTemplate>,
    /// Its database.
    pub database: Option<SeenDatabase>,
    /// Its role.
    pub role: Option<SeenRole>,
    /// How a login of its role begins; where that was not asked, or cannot be told, nothing is known.
    challenge: Challenge,
}

impl Look {
    fn new(seen: Seen, challenge: Challenge) -> Self {
        Self { template: seen.template, database: seen.database, role: seen.role, challenge }
    }

    /// What is taken to be there where nobody can look.
    pub fn assumed() -> Self {
        let database = Some(SeenDatabase { valid: true, open: true });
        let role = Some(SeenRole { can_login: true });
        Self { template: None, database, role, challenge: Challenge::Unknown }
    }

    /// Whether its role could log in to its database.
    pub fn usable(&self) -> bool {
        self.database.is_some_and(|database| database.valid && database.open)
            && self.role.is_some_and(|role| role.can_login)
    }

    /// Whether its role has the password of this fingerprint, as far as can be told without trying it.
    pub fn password_is(&self, mark: &PasswordMark, fingerprint: &str) -> bool {
        let set_by_us = mark.fingerprint.as_deref() == Some(fingerprint);
        let unchanged = match &self.challenge {
            Challenge::Salt(salt) => mark.salt.as_ref() == Some(salt),
            Challenge::Unknown => true,
        };
        set_by_us && unchanged
    }
}

impl PreviewService {
    /// Looks at a preview's names, and at how a login of its role begins.
    pub(super) async fn look(&self, place: &Place) -> Result<Look, Problem> {
        let target = self.world.client_target(&place.server).await?;
        let begun = async {
            // It only ever means that nothing is known; a server that cannot be reached says so to the other look.
            let _permit = place.server.challenges.acquire().await.ok()?;
            challenge(&target, &place.role, &place.db, CHALLENGE).await.ok()
        };
        let (seen, challenge) = tokio::join!(self.seen(place, PATIENCE), begun);
        Ok(Look::new(seen?, challenge.unwrap_or(Challenge::Unknown)))
    }

    /// Looks at a preview's names alone.
    pub(super) async fn look_at_names(&self, place: &Place) -> Result<Look, Problem> {
        Ok(Look::new(self.seen(place, PATIENCE).await?, Challenge::Unknown))
    }

    /// The same without waiting for a server that does not answer.
    pub(super) async fn look_at_once(&self, place: &Place) -> Result<Look, Problem> {
        Ok(Look::new(self.seen(place, Duration::ZERO).await?, Challenge::Unknown))
    }

    /// A server that is being restarted is waited for, up to `patience`.
    async fn seen(&self, place: &Place, patience: Duration) -> Result<Seen, Problem> {
        let begin = self.world.clock.monotonic_ms();
        let mut pause = Duration::ZERO;
        loop {
            let error = match self.try_seen(place).await {
                Ok(seen) => return Ok(seen),
                Err(error) => error,
            };
            // Sessions that were kept have died with their server.
            place.server.forget_sessions();
            let waited = Duration::from_millis(self.world.clock.monotonic_ms().saturating_sub(begin));
            let first = pause.is_zero();
            if !error.passing || (!first && waited + pause > patience) {
                return Err(step_problem(error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        }
    }

    async fn try_seen(&self, place: &Place) -> Result<Seen, StepError> {
        let session = self.world.session(&place.server).await?;
        let seen = look(&session, &place.template, &place.db, &place.role).await.map_err(pg)?;
        session.release();
        Ok(seen)
    }
}
