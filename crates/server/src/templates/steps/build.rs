//! `template.build`: files are run in a new database, which then takes the template's place.

use super::making::Making;
use super::names::Names;
use super::{step, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use async_trait::async_trait;
use pgdb_api::templates::BuildFile;
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
    /// Digest of the files.
    pub digest: String,
    /// The files, in order.
    pub files: Vec<BuildFile>,
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

    fn long(&self, _: &Value) -> bool {
        true
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: BuildInput = cx.input()?;
        let making = Making::new(&self.0, input.names).await?;
        match step {
            "run_files" => {
                making.fresh_staging().await?;
                for file in &input.files {
                    if cx.cancelled.is_cancelled() {
                        return Err(StepError::lasting("cancelled", "the build was cancelled"));
                    }
                    making.run(&file.name, "run the file", &file.sql).await?;
                }
                Ok(StepDone::empty())
            }
            "check" => making.check(&making.definition().await?).await,
            "prepare" => making.prepare().await,
            "swap" => making.swap(cx).await,
            "tidy" => making.tidy(cx, Some(input.digest)).await,
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
