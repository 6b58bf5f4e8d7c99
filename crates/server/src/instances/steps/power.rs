//! `instance.start`, `instance.stop` and `instance.restart`.
//!
//! What the instance should be is written with the operation, so a reconciler brings it about even if these fail;
//! nothing is undone.

use super::super::record;
use super::super::world::{World, runtime_step};
use super::{START_LIMIT, present, start, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use pgdb_core::instance::InstanceState;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::instances) const START: &str = "instance.start";
pub(in crate::instances) const STOP: &str = "instance.stop";
pub(in crate::instances) const RESTART: &str = "instance.restart";

pub(super) struct Power {
    pub(super) world: Arc<World>,
    pub(super) kind: &'static str,
}

#[async_trait]
impl OperationKind for Power {
    fn kind(&self) -> &str {
        self.kind
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let stop = || StepPlan::new("stop").timeout(Duration::from_secs(300));
        let start = || StepPlan::new("start").timeout(START_LIMIT);
        match self.kind {
            START => vec![start()],
            STOP => vec![stop()],
            _ => vec![stop(), StepPlan::new("configure"), start()],
        }
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let subject = present(&self.world, cx).await?;
        let id = subject.instance.id.clone();
        let _lock = self.world.lock(&id).await;
        match step {
            "stop" => {
                subject.runtime.stop(&subject.spec).await.map_err(runtime_step)?;
                Ok(StepDone::commit(move |connection| record::set_state(connection, &id, InstanceState::Stopped, None)))
            }
            "configure" => {
                subject.runtime.configure(&subject.spec).await.map_err(runtime_step)?;
                Ok(StepDone::empty())
            }
            "start" => {
                start(&subject).await?;
                Ok(StepDone::commit(move |connection| record::set_state(connection, &id, InstanceState::Running, None)))
            }
            other => Err(unknown_step(self.kind, other)),
        }
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
