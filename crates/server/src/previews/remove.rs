//! Deletes and resets, which wait for others at work on the same preview.

use super::look::Look;
use super::record::{self, PreviewRecord, PreviewState};
use super::steps::{DELETE, DeleteInput};
use super::steps::{RESET, ResetInput, role_outcome};
use crate::operations::{NewOperation, OperationRecord};
use crate::problem::Problem;
use pgdb_api::previews::{DeletedPreview, Preview};
use rusqlite::Connection;

use super::service::{Place, PreviewService, Progress, ROUNDS, not_found, too_many_rounds};

impl PreviewService {
    /// Removes a preview.
    pub async fn delete(&self, place: &Place, wait: bool) -> Result<Progress<DeletedPreview>, Problem> {
        for _ in 0..ROUNDS {
            let known = self.record(place).await?;
            // Nobody waits to hear what was there, so nobody has to ask.
            let seen = if known.is_some() && !wait { Ok(Look::assumed()) } else { self.look_at_once(place).await };
            let seen = match seen {
                Ok(seen) => seen,
                // What is known of has to go all the same, once its server is back.
                Err(_) if known.is_some() => Look::assumed(),
                Err(problem) => return Err(problem),
            };
            if known.is_none() && seen.database.is_none() && seen.role.is_none() {
                return Ok(Progress::Done(nothing_there(place)));
            }
            let input = DeleteInput {
                target: place.server.key.clone(),
                db: place.db.clone(),
                role: place.role.clone(),
                had_database: seen.database.is_some(),
                had_role: seen.role.is_some(),
            };
            let again = place.clone();
            let prepare = move |connection: &Connection| match record::by_db(connection, &again.server.key, &again.db)?
            {
                Some(preview) if preview.protected => Err(protected(&again)),
                Some(preview) => record::set_state(connection, &preview.id, PreviewState::Deleting, None),
                None => Ok(()),
            };
            match self.start(DELETE, place, &input, prepare).await {
                Ok(started) if !wait => return Ok(Progress::Started(started)),
                Ok(started) => {
                    let operation = self.engine.finish(&started.id).await?;
                    return Ok(Progress::Done(deleted(place, &operation)));
                }
                Err(problem) => self.wait_for_other(problem, wait).await?,
            }
        }
        Err(too_many_rounds(place))
    }

    /// Removes a preview whose time is over, unless somebody has prolonged it meanwhile.
    pub(super) async fn delete_expired(&self, preview: &PreviewRecord) -> Result<(), Problem> {
        let input = DeleteInput {
            target: preview.target.clone(),
            db: preview.db.clone(),
            role: preview.role.clone(),
            had_database: true,
            had_role: true,
        };
        let (seen, now) = (preview.clone(), self.world.clock.now());
        let prepare = move |connection: &Connection| {
            let present = record::by_db(connection, &seen.target, &seen.db)?;
            let due = |preview: &PreviewRecord| !preview.protected && preview.expires_at.is_some_and(|at| at <= now);
            match present.filter(due) {
                Some(preview) => record::set_state(connection, &preview.id, PreviewState::Deleting, None),
                None => Err(Problem::busy("preview_busy", "it was prolonged, protected or deleted meanwhile")),
            }
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: DELETE, subject: preview.subject(), input };
        self.engine.start(new, prepare).await.map(drop)
    }

    /// Throws away what a preview holds and makes it anew from its template.
    pub async fn reset(&self, place: &Place, wait: bool) -> Result<Progress<Preview>, Problem> {
        for _ in 0..ROUNDS {
            self.record(place).await?.ok_or_else(|| not_found(place))?;
            let seen = self.look_at_names(place).await?;
            let generation = self.template_ready(place, seen.template).await?;
            let input = ResetInput {
                target: place.server.key.clone(),
                template: place.template.clone(),
                number: place.number.get(),
                generation,
            };
            let again = place.clone();
            let prepare = move |connection: &Connection| {
                let preview = record::by_db(connection, &again.server.key, &again.db)?;
                let preview = preview.ok_or_else(|| not_found(&again))?;
                if preview.protected {
                    return Err(protected(&again));
                }
                record::set_state(connection, &preview.id, PreviewState::Creating, None)
            };
            match self.start(RESET, place, &input, prepare).await {
                Ok(started) if !wait => return Ok(Progress::Started(started)),
                Ok(started) => {
                    self.engine.finish(&started.id).await?;
                    return Ok(Progress::Done(self.show(place).await?));
                }
                Err(problem) => self.wait_for_other(problem, wait).await?,
            }
        }
        Err(too_many_rounds(place))
    }
}

fn nothing_there(place: &Place) -> DeletedPreview {
    DeletedPreview {
        db_name: place.db.clone(),
        deleted: false,
        app_user: place.role.clone(),
        role_deleted: false,
        role_kept_reason: None,
        noop: true,
        noop_reason: Some("there is neither a database nor a role of this name".to_owned()),
    }
}

fn deleted(place: &Place, operation: &OperationRecord) -> DeletedPreview {
    let had = |what: &str| operation.input[what].as_bool().unwrap_or(false);
    let (role_gone, reason) = role_outcome(operation);
    DeletedPreview {
        db_name: place.db.clone(),
        deleted: had("had_database"),
        app_user: place.role.clone(),
        role_deleted: had("had_role") && role_gone,
        role_kept_reason: reason,
        noop: false,
        noop_reason: None,
    }
}

fn protected(place: &Place) -> Problem {
    let message = format!("{} is protected; run `pgdb preview unprotect {}` first", place.db, place.arguments());
    Problem::locked("protected", message)
}
