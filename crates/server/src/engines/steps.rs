//! `engine.install`: one step, whole or not at all.

use crate::instances::World;
use crate::instances::world::runtime_step;
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use pgdb_runtime::RuntimeError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const INSTALL: &str = "engine.install";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstallInput {
    pub(super) major: u16,
    /// An archive or a folder; the system's packages when there is none.
    pub(super) source: Option<PathBuf>,
}

struct Install(Arc<World>);

/// The kinds of operation on installations.
pub fn kinds(world: &Arc<World>) -> Vec<Arc<dyn OperationKind>> {
    vec![Arc::new(Install(Arc::clone(world)))]
}

#[async_trait]
impl OperationKind for Install {
    fn kind(&self) -> &str {
        INSTALL
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        vec![StepPlan::new("install").timeout(Duration::from_secs(1800))]
    }

    fn joinable(&self) -> bool {
        true
    }

    /// An installation is made aside and renamed into place; what was interrupted is swept away by the next one.
    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, _: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: InstallInput = cx.input()?;
        let runtime = self.0.runtime(self.0.config.default_runtime)?;
        let installed = runtime.install(input.major, input.source.as_deref()).await;
        installed.map_err(|error| match (&input.source, &error) {
            // What cannot be read or unpacked was named by whoever asked.
            (Some(source), RuntimeError::Io { .. } | RuntimeError::ToolFailed { .. }) => {
                let why = runtime_step(error).message;
                StepError::lasting("unsupported", format!("{} holds no PostgreSQL: {why}", source.display()))
            }
            _ => runtime_step(error),
        })?;
        Ok(StepDone::empty())
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
