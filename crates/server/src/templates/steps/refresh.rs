//! `template.refresh`: a source or a dump is read into a new database, which is masked and checked and then takes the
//! template's place. The template of before is kept.

use super::super::record::Holds;
use super::making::Making;
use super::names::Names;
use super::{step, unknown_step};
use crate::operations::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub(crate) const REFRESH: &str = "template.refresh";

/// What is refreshed from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshInput {
    /// The databases that take part.
    pub names: Names,
    /// An uploaded dump, ours to remove; the template's source when there is none.
    pub spool: Option<PathBuf>,
}

pub(super) struct Refresh(pub(super) Arc<PreviewWorld>);

/// How long a dump of a large database may take, and reading it.
const LONG: Duration = Duration::from_secs(24 * 3600);

#[async_trait]
impl OperationKind for Refresh {
    fn kind(&self) -> &str {
        REFRESH
    }

    fn plan(&self, input: &Value) -> Vec<StepPlan> {
        let long = |name: &str| step(name).timeout(LONG);
        let mut steps = if input["spool"].is_null() {
            vec![StepPlan::new("preflight"), StepPlan::new("dump").timeout(LONG)]
        } else {
            vec![StepPlan::new("receive"), StepPlan::new("preflight")]
        };
        steps.extend([long("load"), long("mask"), long("check"), long("prepare"), step("swap")]);
        steps.push(step("tidy").no_way_back());
        steps
    }

    fn place(&self, _: &Value) -> Place {
        Place::Long
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: RefreshInput = cx.input()?;
        let making = Making::new(&self.0, input.names).await?;
        let definition = making.definition().await?;
        match step {
            "receive" => making.receive(&input.spool.unwrap_or_default()).await?,
            "preflight" => return making.preflight(&definition, input.spool.is_some()).await,
            "dump" => return making.dump(&definition, cx).await,
            "load" => return making.load(&definition, cx).await,
            "mask" => {
                if let Some(mask) = &definition.mask {
                    making.run("mask", "mask the new template", mask).await?;
                }
            }
            "check" => return making.check(&definition).await,
            "prepare" => return making.prepare().await,
            "swap" => return making.swap(cx).await,
            "tidy" => return making.tidy(cx, Holds::default()).await,
            other => return Err(unknown_step(REFRESH, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: RefreshInput = cx.input()?;
        let Some(making) = Making::if_there(&self.0, input.names).await? else { return Ok(()) };
        match step {
            "swap" => making.swap_back(cx).await,
            "load" => making.drop_staging().await,
            "dump" => making.remove_scratch().await,
            "receive" => {
                if let Some(spool) = &input.spool {
                    making.receive(spool).await?;
                }
                making.remove_scratch().await
            }
            _ => Ok(()),
        }
    }
}
