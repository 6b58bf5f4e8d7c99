//! Deletes and resets, which wait for others at work on the same preview.

use super::look::Look;
use super::record::{self, PreviewRecord, PreviewState};
use super::steps::{DELETE, DeleteInput};
use super::steps::{RESET, ResetInput, role_outcome};
use crate::operations::record as operation_rows;
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
                return Ok(Progress::Done(nothing_there(place.db.clone(), place.role.clone())));
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
        let now = self.world.clock.now();
        let due =
            move |preview: &PreviewRecord| !preview.protected && preview.lifetime.end().is_some_and(|at| at <= now);
        self.delete_known(preview, due, "it was prolonged, protected or deleted meanwhile").await
    }

    /// Begins a delete anew that has failed, unless somebody has asked for the preview or protected it meanwhile.
    pub(super) async fn delete_again(&self, preview: &PreviewRecord) -> Result<(), Problem> {
        let still = |preview: &PreviewRecord| preview.state == PreviewState::Deleting && !preview.protected;
        self.delete_known(preview, still, "it was asked for or protected meanwhile").await
    }

    async fn delete_known(
        &self,
        preview: &PreviewRecord,
        condition: impl Fn(&PreviewRecord) -> bool + Send + 'static,
        otherwise: &'static str,
    ) -> Result<(), Problem> {
        let input = DeleteInput {
            target: preview.target.clone(),
            db: preview.db.clone(),
            role: preview.role.clone(),
            had_database: true,
            had_role: true,
        };
        let seen = preview.clone();
        let prepare = move |connection: &Connection| {
            let present = record::by_db(connection, &seen.target, &seen.db)?;
            match present.filter(condition) {
                Some(preview) => record::set_state(connection, &preview.id, PreviewState::Deleting, None),
                None => Err(Problem::busy("preview_busy", otherwise)),
            }
        };
        let input = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: DELETE, subject: preview.subject(), input };
        self.engine.start(new, prepare).await.map(drop)
    }

    /// Notes that a preview is broken whose operation has ended without making it, and could not be taken back either.
    /// An ensure mends it, and a delete removes what there is of it.
    pub(super) async fn give_up(&self, preview: &PreviewRecord) -> Result<(), Problem> {
        let (seen, subject) = (preview.clone(), preview.subject());
        let change = move |connection: &Connection| {
            let present = record::by_db(connection, &seen.target, &seen.db)?;
            let last = operation_rows::latest_on(connection, &subject)?;
            match (present, last) {
                (Some(present), Some(last)) if present.state == PreviewState::Creating && last.state.is_final() => {
                    let why = last.error.map(|(_, message)| message);
                    record::set_state(connection, &present.id, PreviewState::Broken, why.as_deref())
                }
                _ => Ok(()),
            }
        };
        self.world.store.write(change).await
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

/// The answer to a delete of what is not there.
pub(super) fn nothing_there(db_name: String, app_user: String) -> DeletedPreview {
    DeletedPreview {
        db_name,
        deleted: false,
        app_user,
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
