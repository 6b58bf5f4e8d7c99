//! `template.rollback`: the template and the one before it change places. Doing it again goes forward again.

use super::super::record;
use super::making::Making;
use super::names::Names;
use super::{step, unknown_step};
use crate::instances::world::pg;
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use crate::previews::templates;
use async_trait::async_trait;
use pgdb_pg::swap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The kind.
pub(crate) const ROLLBACK: &str = "template.rollback";

/// What is rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RollbackInput {
    /// The databases that take part.
    pub names: Names,
    /// PostgreSQL's number of the one before, which becomes the template.
    pub previous: u32,
}

pub(super) struct Rollback(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Rollback {
    fn kind(&self) -> &str {
        ROLLBACK
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        vec![step("swap"), step("prepare")]
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: RollbackInput = cx.input()?;
        let making = Making::new(&self.0, input.names).await?;
        match step {
            "swap" => {
                exchange(&making, input.previous, true).await?;
                Ok(StepDone::empty())
            }
            "prepare" => {
                let template = &making.names.template;
                let found = self.0.prepare_database(&making.server, template, template).await?;
                Ok(StepDone::commit(move |connection| {
                    // What was built last is the other one now.
                    record::forget_files(connection, &found.target, &found.name)?;
                    templates::put(connection, &found)
                }))
            }
            other => Err(unknown_step(ROLLBACK, other)),
        }
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: RollbackInput = cx.input()?;
        if step != "swap" {
            return Ok(());
        }
        let Some(making) = Making::if_there(&self.0, input.names).await? else { return Ok(()) };
        exchange(&making, input.previous, false).await
    }
}

/// Sees to it that the database with this number is the template, or that it is not.
async fn exchange(making: &Making<'_>, previous: u32, is_template: bool) -> Result<(), StepError> {
    let Names { template, staging, previous: before, .. } = &making.names;
    making
        .exchange(async |session| {
            if (swap::oid(session, template).await.map_err(pg)? == Some(previous)) == is_template {
                return Ok(vec![]);
            }
            let (one, other, aside) = (template.as_str(), before.as_str(), staging.as_str());
            let had_template = swap::oid(session, template).await.map_err(pg)?.is_some();
            Ok(if had_template { vec![(one, aside), (other, one), (aside, other)] } else { vec![(other, one)] })
        })
        .await
}
