//! What the operations on templates do, a file per operation.

mod build;
mod delete;
mod load;
mod making;
mod migrate;
pub(super) mod names;
mod refresh;
mod rollback;

use crate::operations::{OperationKind, StepError, StepPlan};
use crate::previews::PreviewWorld;
use std::sync::Arc;

pub(super) use build::{BUILD, BuildInput};
pub(super) use delete::{DELETE, DeleteInput};
pub(crate) use migrate::MIGRATE;
pub(super) use migrate::MigrateInput;
pub(super) use refresh::{REFRESH, RefreshInput};
pub(super) use rollback::{ROLLBACK, RollbackInput};

/// Tries of a step that acts on our server: enough for PostgreSQL to be restarted meanwhile.
const TRIES: u32 = 12;

/// Every kind of operation on templates.
pub fn kinds(world: &Arc<PreviewWorld>) -> Vec<Arc<dyn OperationKind>> {
    let world = || Arc::clone(world);
    vec![
        Arc::new(refresh::Refresh(world())),
        Arc::new(build::Build(world())),
        Arc::new(migrate::Migrate(world())),
        Arc::new(rollback::Rollback(world())),
        Arc::new(delete::Delete(world())),
    ]
}

/// A step that lives through a restart of PostgreSQL.
fn step(name: &str) -> StepPlan {
    StepPlan::new(name).tries(TRIES)
}

fn unknown_step(kind: &str, step: &str) -> StepError {
    StepError::lasting("unknown_step", format!("{kind} has no step {step}; was it written by a newer pgdb?"))
}
