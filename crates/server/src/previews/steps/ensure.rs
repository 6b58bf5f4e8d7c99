//! `preview.ensure`: a pull request's database, cloned from the template or found, with its role.

use super::super::record::{self, PasswordMark, PreviewState, Ready};
use super::super::service::Place;
use super::super::world::PreviewWorld;
use super::{place, step, unknown_step};
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
        match serde_json::from_value(input["found"].clone()) {
            Ok(Found::Database) => vec![step("adopt").timeout(long)],
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
                let mark = self.0.make_role(&place).await?;
                Ok(StepDone::output(json!({ "salt": mark.salt })))
            }
            "clone" => {
                self.0.clone_template(&place, &place.db).await?;
                Ok(StepDone::empty())
            }
            "hand_over" => {
                self.0.hand_over(&place, &place.db, &place.role).await?;
                let password = self.0.password(&place.server, &place.db, &place.role).await?;
                let salt = cx.output::<Value>("make_role")?["salt"].as_str().map(str::to_owned);
                let mark = PasswordMark { fingerprint: Some(password.fingerprint), salt };
                Ok(self.ready(&place, Ready { created: true, generation: input.generation, mark }))
            }
            "adopt" => {
                let mark = self.adopt(&place).await?;
                Ok(self.ready(&place, Ready { created: false, generation: input.generation, mark }))
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
            _ => Ok(()),
        }
    }
}

impl Ensure {
    fn ready(&self, place: &Place, ready: Ready) -> StepDone {
        let (target, db) = (place.server.key.clone(), place.db.clone());
        StepDone::commit(move |connection| match record::by_db(connection, &target, &db)? {
            Some(preview) => record::set_ready(connection, &preview.id, &ready),
            None => Ok(()),
        })
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
            Some(preview) if known => {
                record::set_state(connection, &preview.id, PreviewState::Broken, why.as_deref())
            }
            Some(_) => record::delete(connection, &target, &db),
            None => Ok(()),
        };
        Ok(self.0.store.write(change).await?)
    }
}
