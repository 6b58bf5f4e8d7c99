//! `preview.delete`: goes forward only, so that whatever interrupts it, asking again finishes it.

use super::super::record;
use super::super::world::PreviewWorld;
use super::{step, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub const DELETE: &str = "preview.delete";
/// The step that tells what became of the role.
pub(super) const DROP_ROLE: &str = "drop_role";

/// What a delete removes, as it was seen when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteInput {
    /// The server.
    pub target: String,
    /// The database.
    pub db: String,
    /// The role.
    pub role: String,
    /// Whether the database was there.
    pub had_database: bool,
    /// Whether the role was there.
    pub had_role: bool,
}

pub(super) struct Delete(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Delete {
    fn kind(&self) -> &str {
        DELETE
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        vec![step("disconnect"), step("drop_database").timeout(Duration::from_secs(600)), step(DROP_ROLE)]
    }

    fn joinable(&self) -> bool {
        true
    }

    /// What was seen before does not matter, only which preview is meant.
    fn same_goal(&self, active: &Value, new: &Value) -> bool {
        ["target", "db"].iter().all(|field| active[field] == new[field])
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: DeleteInput = cx.input()?;
        let forget = move |kept: Value| {
            let input: DeleteInput = cx.input()?;
            let commit = StepDone::commit(move |connection| record::delete(connection, &input.target, &input.db));
            Ok(StepDone { output: kept, ..commit })
        };
        let Some(server) = self.0.server_of(&input.target).await? else {
            // The instance is gone, and everything on it.
            return if step == DROP_ROLE { forget(Value::Null) } else { Ok(StepDone::empty()) };
        };
        match step {
            "disconnect" => self.0.disconnect(&server, &input.db).await?,
            "drop_database" => self.0.drop_database(&server, &input.db).await?,
            DROP_ROLE => {
                let reason = self.0.drop_role(&server, &input.role).await?;
                return forget(reason.map_or(Value::Null, |reason| json!({ "kept_reason": reason })));
            }
            other => return Err(unknown_step(DELETE, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
