//! `template.prepare`: a template is looked at, and its objects get a holder, so that clones of it can be handed over.
//!
//! Goes forward only: a template whose preparation was cut short is as good as before, and is prepared again.

use super::super::templates::{self, TemplateRecord};
use super::super::world::PreviewWorld;
use super::{server, step, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub const PREPARE_TEMPLATE: &str = "template.prepare";

/// Which template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareTemplateInput {
    /// The server.
    pub target: String,
    /// The database.
    pub template: String,
}

pub(super) struct PrepareTemplate(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for PrepareTemplate {
    fn kind(&self) -> &str {
        PREPARE_TEMPLATE
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        vec![step("prepare").timeout(Duration::from_secs(600))]
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: PrepareTemplateInput = cx.input()?;
        if step != "prepare" {
            return Err(unknown_step(PREPARE_TEMPLATE, step));
        }
        let server = server(&self.0, &input.target).await?;
        let found: TemplateRecord = self.0.prepare_template(&server, &input.template).await?;
        Ok(StepDone::commit(move |connection| templates::put(connection, &found)))
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
