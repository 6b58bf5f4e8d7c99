//! `instance.destroy`: goes forward only, so that whatever interrupts it, asking again finishes it.

use super::super::record;
use super::super::world::{World, runtime_step};
use super::{subject, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use crate::previews::templates;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::instances) const DESTROY: &str = "instance.destroy";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::instances) struct DestroyInput {
    pub(in crate::instances) id: String,
    pub(in crate::instances) keep_data: bool,
}

pub(super) struct Destroy(pub(super) Arc<World>);

#[async_trait]
impl OperationKind for Destroy {
    fn kind(&self) -> &str {
        DESTROY
    }

    fn plan(&self, input: &Value) -> Vec<StepPlan> {
        let keeps = input["keep_data"].as_bool().unwrap_or(false);
        let data = if keeps { "keep_data" } else { "remove_data" };
        let data = StepPlan::new(data).timeout(Duration::from_secs(1800));
        vec![StepPlan::new("stop").timeout(Duration::from_secs(300)), data, StepPlan::new("forget")]
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: DestroyInput = cx.input()?;
        let Some(subject) = subject(&self.0, cx).await? else { return Ok(StepDone::empty()) };
        let _lock = self.0.lock(&input.id).await;
        match step {
            "stop" => subject.runtime.stop(&subject.spec).await.map_err(runtime_step)?,
            "remove_data" => subject.runtime.remove(&subject.spec).await.map_err(runtime_step)?,
            "keep_data" => {
                let reserved = self.0.store.read(record::volumes).await?;
                let volume = subject.runtime.keep(&subject.spec, &reserved).await.map_err(runtime_step)?;
                return Ok(StepDone::output(json!({ "volume": volume })));
            }
            "forget" => {
                let volume: Option<String> = if input.keep_data {
                    cx.output::<Value>("keep_data")?["volume"].as_str().map(str::to_owned)
                } else {
                    None
                };
                let (instance, kept_at) = (subject.instance, self.0.clock.now());
                let id = instance.id.clone();
                let held = self.0.store.read(move |connection| templates::held(connection, &id)).await?;
                let output = held.map_or(Value::Null, |held| json!({ "held": held }));
                let done = StepDone::commit(move |connection| {
                    if let Some(volume) = &volume {
                        record::insert_volume(connection, volume, &instance, kept_at)?;
                    }
                    // Whatever was on it is gone with it, or kept data that nobody has a password for.
                    templates::forget_target(connection, &instance.id)?;
                    record::delete(connection, &instance.id)
                });
                return Ok(StepDone { output, ..done });
            }
            other => return Err(unknown_step(DESTROY, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
