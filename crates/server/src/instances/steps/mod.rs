//! What the operations on instances do, a file per operation.

mod deploy;
mod destroy;
mod password;
mod power;
mod restore;

use super::record::InstanceRecord;
use super::world::{World, runtime_step};
use crate::operations::{OperationKind, StepContext, StepError};
use pgdb_runtime::Runtime;
use pgdb_runtime::spec::ServerSpec;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

pub(super) use deploy::{DEPLOY, DeployInput};
pub(super) use destroy::{DESTROY, DestroyInput};
pub(super) use password::ROTATE_PASSWORD;
pub(super) use power::{RESTART, START, STOP};
pub(crate) use restore::load_failed;
pub(super) use restore::{RESTORE, RestoreInput};

/// Above what a runtime can be told to wait for a server: it knows why none came, and is to say so first.
const START_LIMIT: Duration = Duration::from_secs(3700);

/// Input of operations that need to know only which instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OnInstance {
    pub(super) id: String,
}

/// Every kind of operation on instances.
pub fn kinds(world: &Arc<World>) -> Vec<Arc<dyn OperationKind>> {
    let world = || Arc::clone(world);
    vec![
        Arc::new(deploy::Deploy(world())),
        Arc::new(destroy::Destroy(world())),
        Arc::new(power::Power { world: world(), kind: START }),
        Arc::new(power::Power { world: world(), kind: STOP }),
        Arc::new(power::Power { world: world(), kind: RESTART }),
        Arc::new(password::RotatePassword(world())),
        Arc::new(restore::Restore(world())),
    ]
}

/// The instance that a step is about, if its row is still there, with its runtime and what that is told.
struct Subject {
    instance: InstanceRecord,
    runtime: Arc<dyn Runtime>,
    spec: ServerSpec,
}

async fn subject(world: &World, cx: &StepContext) -> Result<Option<Subject>, StepError> {
    let OnInstance { id } = cx.input()?;
    let Some(instance) = world.by_id(&id).await? else { return Ok(None) };
    let runtime = Arc::clone(world.runtime(instance.runtime)?);
    let spec = world.spec(&instance)?;
    Ok(Some(Subject { instance, runtime, spec }))
}

/// The same where the row must be there.
async fn present(world: &World, cx: &StepContext) -> Result<Subject, StepError> {
    let gone = || StepError::lasting("database_not_found", "the database's record is gone");
    subject(world, cx).await?.ok_or_else(gone)
}

fn unknown_step(kind: &str, step: &str) -> StepError {
    StepError::lasting("unknown_step", format!("{kind} has no step {step}; was it written by a newer pgdb?"))
}

/// Starts the server of an instance as it is configured.
async fn start(subject: &Subject) -> Result<(), StepError> {
    subject.runtime.start(&subject.spec).await.map_err(runtime_step)
}
