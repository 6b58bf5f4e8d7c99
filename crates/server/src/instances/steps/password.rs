//! `instance.rotate_password`: the new password is noted with the operation, set, proven, and then made the valid one.

use super::super::record::{self, InstanceRecord};
use super::super::world::{World, pg};
use super::{present, subject, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use pgdb_pg::{provision, scram};
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;

pub(in crate::instances) const ROTATE_PASSWORD: &str = "instance.rotate_password";

pub(super) struct RotatePassword(pub(super) Arc<World>);

#[async_trait]
impl OperationKind for RotatePassword {
    fn kind(&self) -> &str {
        ROTATE_PASSWORD
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        ["set", "verify"].map(StepPlan::new).to_vec()
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let subject = present(&self.0, cx).await?;
        let instance = subject.instance;
        let _lock = self.0.lock(&instance.id).await;
        let Some(sealed) = &instance.next_password else {
            // Only the last step's own commit takes it away.
            return Ok(StepDone::empty());
        };
        let next = self.0.sealer.open_sealed(&instance.password_aad(), sealed)?;
        match step {
            "set" => self.set(&instance, &next).await?,
            "verify" => {
                self.0.login(&instance, &next).await?;
                let id = instance.id;
                return Ok(StepDone::commit(move |connection| record::take_next_password(connection, &id)));
            }
            other => return Err(unknown_step(ROTATE_PASSWORD, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let Some(subject) = subject(&self.0, cx).await? else { return Ok(()) };
        if step != "set" {
            return Ok(());
        }
        let _lock = self.0.lock(&subject.instance.id).await;
        let valid = self.0.password(&subject.instance)?;
        self.set(&subject.instance, &valid).await?;
        let id = subject.instance.id;
        Ok(self.0.store.write(move |connection| record::drop_next_password(connection, &id)).await?)
    }
}

impl RotatePassword {
    async fn set(&self, instance: &InstanceRecord, password: &SecretString) -> Result<(), StepError> {
        let client = self.0.admin(instance, "postgres").await?;
        provision::set_password(&client, &instance.user, &scram::verifier(password)).await.map_err(pg)
    }
}
