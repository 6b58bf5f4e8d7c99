//! `template.migrate`: migrations are run in a copy of the template, which then takes its place. Whoever wants a preview
//! meanwhile gets one of the template as it was.

use super::super::record::{self, Holds};
use super::making::Making;
use super::names::Names;
use super::{step, unknown_step};
use crate::migrations::Set;
use crate::operations::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use async_trait::async_trait;
use pgdb_api::migrations::MigrationPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub(crate) const MIGRATE: &str = "template.migrate";

/// What is migrated with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MigrateInput {
    /// The databases that take part.
    pub names: Names,
    /// Digest of the migrations.
    pub set: String,
    /// How they are run.
    pub policy: MigrationPolicy,
}

pub(super) struct Migrate(pub(super) Arc<PreviewWorld>);

/// Whether the template held everything before, and so stays as it is. Looked at before anything is run: what a run says
/// after a crash in it is no answer.
fn held_all(cx: &StepContext) -> bool {
    cx.output::<Value>("copy").is_ok_and(|copied| copied["lacks"] == 0)
}

#[async_trait]
impl OperationKind for Migrate {
    fn kind(&self) -> &str {
        MIGRATE
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let long = |name: &str| step(name).timeout(Duration::from_secs(6 * 3600));
        let mut steps = vec![long("copy"), long("migrate"), long("check"), long("prepare"), step("swap")];
        steps.push(step("tidy").no_way_back());
        steps
    }

    fn place(&self, _: &Value) -> Place {
        Place::Long
    }

    fn joinable(&self) -> bool {
        true
    }

    fn same_goal(&self, active: &Value, new: &Value) -> bool {
        active["set"] == new["set"] && active["policy"] == new["policy"]
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: MigrateInput = cx.input()?;
        let making = Making::new(&self.0, input.names).await?;
        match step {
            "copy" => {
                let set = Set::load(&self.0.store, &input.set).await?;
                making.copied_staging().await?;
                Ok(StepDone::output(json!({ "lacks": making.lacks(&set, &input.policy).await? })))
            }
            "migrate" => {
                let set = Set::load(&self.0.store, &input.set).await?;
                making.migrate(&set, &input.policy, cx).await.map(StepDone::output)
            }
            "check" | "prepare" | "swap" if held_all(cx) => Ok(StepDone::empty()),
            "check" => making.check(&making.definition().await?).await,
            "prepare" => making.prepare().await,
            "swap" => making.swap(cx).await,
            "tidy" if held_all(cx) => {
                making.drop_staging().await?;
                let definition = making.definition().await?;
                let found = move |connection: &_| record::found_migrated(connection, &definition.id, &input.set);
                Ok(StepDone::commit(found))
            }
            "tidy" => making.tidy(cx, Holds { built_from: None, migrated_to: Some(input.set) }).await,
            other => Err(unknown_step(MIGRATE, other)),
        }
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: MigrateInput = cx.input()?;
        let Some(making) = Making::if_there(&self.0, input.names).await? else { return Ok(()) };
        match step {
            "swap" => making.swap_back(cx).await,
            "copy" => making.drop_staging().await,
            _ => Ok(()),
        }
    }
}
