//! `preview.ensure`: a pull request's database, cloned from the template or found, with its role.

use super::super::entries;
use super::super::postgres::HandedOut;
use super::super::record::{self, PasswordMark, PreviewState, Ready};
use super::super::service::Place;
use super::super::world::PreviewWorld;
use super::{copied, place, step, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub const ENSURE: &str = "preview.ensure";

/// What an ensure has to do, as it was seen when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsureInput {
    /// The server.
    pub target: String,
    /// The template.
    pub template: String,
    /// The pull request's number.
    pub number: u64,
    /// What was there before. It decides what is taken back if this fails.
    pub found: Found,
    /// Whether there was a record of it.
    pub known: bool,
    /// The template's generation.
    pub generation: u64,
    /// The entry of the warm pool that is handed out.
    pub entry: Option<EntryNames>,
    /// The daemon whose request waits to tell that it was created; another one leaves that for who asks first.
    pub teller: Option<String>,
}

/// An entry of the warm pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryNames {
    /// Its database.
    pub db: String,
    /// Its role.
    pub role: String,
}

/// What was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// No database of that name: everything is made, and taken back if it fails.
    Nothing,
    /// The database, which is mended and never taken back.
    Database,
}

pub(super) struct Ensure(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Ensure {
    fn kind(&self) -> &str {
        ENSURE
    }

    fn plan(&self, input: &Value) -> Vec<StepPlan> {
        let long = Duration::from_secs(3600);
        match (serde_json::from_value(input["found"].clone()), &input["entry"]) {
            (Ok(Found::Database), _) => vec![step("adopt").timeout(long)],
            (_, Value::Object(_)) => vec![step("hand_out").timeout(long)],
            _ => vec![step("make_role"), step("clone").timeout(long), step("hand_over").timeout(long)],
        }
    }

    fn joinable(&self) -> bool {
        true
    }

    /// What was seen on the way does not matter, only which preview is meant: one is at work on it already.
    fn same_goal(&self, active: &Value, new: &Value) -> bool {
        ["target", "template", "number"].iter().all(|field| active[field] == new[field])
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: EnsureInput = cx.input()?;
        let place = place(&self.0, &input.target, &input.template, input.number).await?;
        match step {
            "make_role" => {
                let mark = self.0.make_role(&place, &place.role).await?;
                Ok(StepDone::output(json!({ "salt": mark.salt })))
            }
            "clone" => {
                let done = self.0.clone_template(&place, &place.db).await?;
                Ok(copied(&input.target, &input.template, done))
            }
            "hand_over" => {
                self.0.hand_over(&place, &place.db, &place.role).await?;
                let password = self.0.password(&place.server, &place.db, &place.role).await?;
                let salt = cx.output::<Value>("make_role")?["salt"].as_str().map(str::to_owned);
                let mark = PasswordMark { fingerprint: Some(password.fingerprint), salt };
                Ok(self.ready(&place, &input, true, mark))
            }
            "hand_out" => {
                let (created, mark) = self.hand_out(&place, &input).await?;
                Ok(self.ready(&place, &input, created, mark))
            }
            "adopt" => {
                let mark = self.adopt(&place).await?;
                Ok(self.ready(&place, &input, false, mark))
            }
            other => Err(unknown_step(ENSURE, other)),
        }
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: EnsureInput = cx.input()?;
        let place = place(&self.0, &input.target, &input.template, input.number).await?;
        match step {
            "clone" => self.0.drop_database(&place.server, &place.db).await,
            "make_role" => {
                self.0.drop_role(&place.server, &place.role).await?;
                self.forget(&place, &input, cx).await
            }
            "adopt" => self.forget(&place, &input, cx).await,
            "hand_out" => self.take_back(&place, &input, cx).await,
            _ => Ok(()),
        }
    }
}

impl Ensure {
    fn ready(&self, place: &Place, input: &EnsureInput, created: bool, mark: PasswordMark) -> StepDone {
        let (target, db) = (place.server.key.clone(), place.db.clone());
        let entry = input.entry.as_ref().map(|entry| entry.db.clone());
        // Whoever waits in this very daemon tells it; after a crash nobody does.
        let news = created && input.teller.as_deref() != Some(self.0.run_id.as_str());
        let ready = Ready { news, generation: input.generation, mark };
        let commit = StepDone::commit(move |connection| {
            if let Some(entry) = &entry {
                // One that was not used after all is somebody else's again.
                entries::delete_taken(connection, (&target, entry), &db)?;
            }
            match record::by_db(connection, &target, &db)? {
                Some(preview) => record::set_ready(connection, &preview.id, &ready),
                None => Ok(()),
            }
        });
        StepDone { output: json!({ "created": created }), ..commit }
    }

    /// Gives an entry of the warm pool the preview's names; without one, makes the preview as if there were no pool.
    async fn hand_out(&self, place: &Place, input: &EnsureInput) -> Result<(bool, PasswordMark), StepError> {
        let Some(entry) = &input.entry else { return Err(unknown_step(ENSURE, "hand_out")) };
        let (target, db) = (place.server.key.clone(), entry.db.clone());
        let row = self.0.store.read(move |connection| entries::find(connection, &target, &db)).await?;
        let Some(row) = row.filter(|row| row.is_taken_by(&place.db)) else {
            // An earlier try of this step has given it back, and it may be another preview's by now.
            return if self.0.database_there(&place.server, &place.db).await? {
                Ok((false, self.adopt(place).await?))
            } else {
                Ok((true, self.make(place).await?))
            };
        };
        let password = self.0.password(&place.server, &place.db, &place.role).await?;
        let aimed = Some(row).filter(|row| {
            row.number == Some(input.number) && row.mark.fingerprint.as_ref() == Some(&password.fingerprint)
        });
        let (verifier, mark) = match aimed {
            Some(row) => (None, row.mark),
            None => {
                let (verifier, mark) = password.verifier();
                (Some(verifier), mark)
            }
        };
        match self.0.hand_out(place, entry, verifier.as_deref()).await? {
            HandedOut::Now => Ok((true, mark)),
            HandedOut::Before => Ok((true, self.0.mend_role(place).await?)),
            HandedOut::Gone => {
                tracing::warn!(entry = %entry.db, "an entry of the pool is gone; making the preview without it");
                Ok((true, self.make(place).await?))
            }
            HandedOut::RoleInTheWay => {
                self.release(place, entry).await?;
                Ok((true, self.make(place).await?))
            }
            HandedOut::InTheWay => {
                self.release(place, entry).await?;
                Ok((false, self.adopt(place).await?))
            }
        }
    }

    /// Makes the preview without the pool.
    async fn make(&self, place: &Place) -> Result<PasswordMark, StepError> {
        let mark = self.0.make_role(place, &place.role).await?;
        self.0.clone_template(place, &place.db).await?;
        self.0.hand_over(place, &place.db, &place.role).await?;
        Ok(mark)
    }

    /// Puts an entry that was not used back into the pool.
    async fn release(&self, place: &Place, entry: &EntryNames) -> Result<(), StepError> {
        let (target, db, preview) = (place.server.key.clone(), entry.db.clone(), place.db.clone());
        let change = move |connection: &rusqlite::Connection| entries::release(connection, (&target, &db), &preview);
        Ok(self.0.store.write(change).await?)
    }

    /// Takes a hand-out back: an entry that has its own names still is whole, and one that has the preview's goes.
    async fn take_back(&self, place: &Place, input: &EnsureInput, cx: &StepContext) -> Result<(), StepError> {
        let Some(entry) = &input.entry else { return Ok(()) };
        if self.0.database_there(&place.server, &entry.db).await? {
            self.release(place, entry).await?;
        } else {
            let (target, db) = (place.server.key.clone(), entry.db.clone());
            let row = self.0.store.read(move |connection| entries::find(connection, &target, &db)).await?;
            // Without a row of ours the undo has come this far before, or the entry was given back.
            if row.is_some_and(|row| row.is_taken_by(&place.db)) {
                self.0.drop_database(&place.server, &place.db).await?;
                self.0.drop_role(&place.server, &place.role).await?;
                self.0.drop_role(&place.server, &entry.role).await?;
                let (target, db, preview) = (place.server.key.clone(), entry.db.clone(), place.db.clone());
                let change = move |connection: &rusqlite::Connection| {
                    entries::delete_taken(connection, (&target, &db), &preview)
                };
                self.0.store.write(change).await?;
            }
        }
        self.forget(place, input, cx).await
    }

    /// Takes over a database that is there: its role, the rights, and the password if another one was set.
    async fn adopt(&self, place: &Place) -> Result<PasswordMark, StepError> {
        let mark = self.0.mend_role(place).await?;
        self.0.hand_over(place, &place.db, &place.role).await?;
        Ok(mark)
    }

    /// Removes the record that this operation has made; one that was there before says what is wrong.
    async fn forget(&self, place: &Place, input: &EnsureInput, cx: &StepContext) -> Result<(), StepError> {
        let (target, db) = (place.server.key.clone(), place.db.clone());
        let (known, why) = (input.known, cx.operation.error.clone().map(|(_, message)| message));
        let change = move |connection: &rusqlite::Connection| match record::by_db(connection, &target, &db)? {
            Some(preview) if known => record::set_state(connection, &preview.id, PreviewState::Broken, why.as_deref()),
            Some(_) => record::delete(connection, &target, &db),
            None => Ok(()),
        };
        Ok(self.0.store.write(change).await?)
    }
}
