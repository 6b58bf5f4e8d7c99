//! `template.build`: migrations are run in a new database, which then takes the template's place.

use super::super::record::Holds;
use super::making::Making;
use super::names::Names;
use super::{step, unknown_step};
use crate::migrations::Set;
use crate::operations::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use async_trait::async_trait;
use pgdb_api::migrations::MigrationPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub(crate) const BUILD: &str = "template.build";

/// What is built of what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildInput {
    /// The databases that take part.
    pub names: Names,
    /// Digest of the migrations and the seed.
    pub set: String,
}

pub(super) struct Build(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Build {
    fn kind(&self) -> &str {
        BUILD
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let long = |name: &str| step(name).timeout(Duration::from_secs(6 * 3600));
        vec![long("run_files"), long("check"), long("prepare"), step("swap"), step("tidy").no_way_back()]
    }

    fn place(&self, _: &Value) -> Place {
        Place::Long
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: BuildInput = cx.input()?;
        let making = Making::new(&self.0, input.names).await?;
        match step {
            "run_files" => {
                let set = Set::load(&self.0.store, &input.set).await?;
                making.fresh_staging().await?;
                let report = making.migrate(&set, &MigrationPolicy::default(), cx).await?;
                if let Some((name, sql)) = set.seed() {
                    making.run(name, "run the seed", sql).await?;
                }
                Ok(StepDone::output(report))
            }
            "check" => making.check(&making.definition().await?).await,
            "prepare" => making.prepare().await,
            "swap" => making.swap(cx).await,
            "tidy" => {
                let set = Set::load(&self.0.store, &input.set).await?;
                let holds = Holds { migrated_to: Some(set.migrations_digest()), built_from: Some(input.set) };
                making.tidy(cx, holds).await
            }
            other => Err(unknown_step(BUILD, other)),
        }
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: BuildInput = cx.input()?;
        let Some(making) = Making::if_there(&self.0, input.names).await? else { return Ok(()) };
        match step {
            "swap" => making.swap_back(cx).await,
            "run_files" => making.drop_staging().await,
            _ => Ok(()),
        }
    }
}
