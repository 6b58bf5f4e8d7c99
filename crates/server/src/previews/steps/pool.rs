//! `preview.pool_fill` and `preview.pool_drop`: an entry of the warm pool is made, or removed.

use super::super::entries::{self, EntryRecord, EntryState};
use super::super::record::{self, PasswordMark};
use super::super::service::Place;
use super::super::world::PreviewWorld;
use super::{copied, place, step, unknown_step};
use crate::operations::record as operation_rows;
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use crate::problem::Problem;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind that makes an entry.
pub const POOL_FILL: &str = "preview.pool_fill";
/// The kind that removes one.
pub const POOL_DROP: &str = "preview.pool_drop";

/// Which entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInput {
    /// The server.
    pub target: String,
    /// The entry's database.
    pub entry: String,
    /// Its role.
    pub role: String,
    /// Its template.
    pub template: String,
    /// The number whose password it is to get.
    pub number: u64,
}

impl EntryInput {
    /// What an operation has to know of an entry.
    pub fn new(entry: &EntryRecord) -> Self {
        Self {
            target: entry.target.clone(),
            entry: entry.db.clone(),
            role: entry.role.clone(),
            template: entry.template.clone(),
            number: entry.number.unwrap_or(1),
        }
    }
}

pub(super) struct PoolFill(pub(super) Arc<PreviewWorld>);
pub(super) struct PoolDrop(pub(super) Arc<PreviewWorld>);

async fn entry_place(world: &PreviewWorld, input: &EntryInput) -> Result<Place, StepError> {
    place(world, &input.target, &input.template, input.number).await
}

#[async_trait]
impl OperationKind for PoolFill {
    fn kind(&self) -> &str {
        POOL_FILL
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let long = Duration::from_secs(3600);
        vec![step("make_role"), step("clone").timeout(long), step("hand_over").timeout(long)]
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: EntryInput = cx.input()?;
        let place = entry_place(&self.0, &input).await?;
        match step {
            "make_role" => {
                // With the password that it will have once it is handed out under the number's names.
                let mark = self.0.make_role(&place, &input.role).await?;
                Ok(StepDone::output(json!({ "salt": mark.salt })))
            }
            "clone" => {
                let done = self.0.clone_and_learn(&place, &input.entry).await?;
                Ok(copied(&input.target, &input.template, done))
            }
            "hand_over" => {
                self.0.hand_over(&place, &input.entry, &input.role).await?;
                let password = self.0.password(&place.server, &place.db, &place.role).await?;
                let salt = cx.output::<Value>("make_role")?["salt"].as_str().map(str::to_owned);
                let mark = PasswordMark { fingerprint: Some(password.fingerprint), salt };
                Ok(StepDone::commit(move |connection| {
                    entries::set_ready(connection, (&input.target, &input.entry), input.number, &mark)
                }))
            }
            other => Err(unknown_step(POOL_FILL, other)),
        }
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: EntryInput = cx.input()?;
        let place = entry_place(&self.0, &input).await?;
        match step {
            "clone" => self.0.drop_database(&place.server, &input.entry).await,
            "make_role" => {
                self.0.drop_role(&place.server, &input.role).await?;
                let change =
                    move |connection: &rusqlite::Connection| entries::delete(connection, &input.target, &input.entry);
                Ok(self.0.store.write(change).await?)
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl OperationKind for PoolDrop {
    fn kind(&self) -> &str {
        POOL_DROP
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        vec![step("drop_database").timeout(Duration::from_secs(600)), step("drop_role")]
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: EntryInput = cx.input()?;
        let server = self.0.server_of(&input.target).await?;
        match (step, server) {
            ("drop_database", Some(server)) => self.0.drop_database(&server, &input.entry).await?,
            ("drop_role", server) => {
                if let Some(server) = server {
                    self.0.drop_role(&server, &input.role).await?;
                }
                return Ok(StepDone::commit(move |connection| {
                    entries::delete(connection, &input.target, &input.entry)
                }));
            }
            // The instance is gone, and everything on it.
            ("drop_database", None) => {}
            (other, _) => return Err(unknown_step(POOL_DROP, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// Marks an entry as one that is being removed; refuses while somebody is handing it out.
pub fn begin_drop(connection: &rusqlite::Connection, input: &EntryInput) -> Result<(), Problem> {
    let key = (input.target.as_str(), input.entry.as_str());
    let Some(entry) = entries::find(connection, key.0, key.1)? else { return Ok(()) };
    // One whose preview failed, and could not be taken back either, is nobody's any more.
    if let (EntryState::Taken, Some(db)) = (entry.state, &entry.taken_by)
        && operation_rows::active_on(connection, &record::subject(&input.target, db))?.is_some()
    {
        return Err(Problem::busy("preview_busy", "the entry of the pool is in use"));
    }
    entries::set_dropping(connection, key)
}
