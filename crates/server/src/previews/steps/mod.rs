//! What the operations on previews do, a file per operation.

mod delete;
mod ensure;
mod pool;
mod reset;
mod template;

use super::server::Server;
use super::service::Place;
use super::templates;
use super::world::PreviewWorld;
use crate::operations::{OperationKind, OperationRecord, StepDone, StepError, StepPlan};
use pgdb_core::copying::Copied;
use pgdb_core::preview::PrNumber;
use std::sync::Arc;

pub use delete::{DELETE, DeleteInput};
pub use ensure::{ENSURE, EnsureInput, EntryNames, Found};
pub use pool::{EntryInput, POOL_DROP, POOL_FILL, begin_drop};
pub use reset::{RESET, ResetInput};
pub use template::{PREPARE_TEMPLATE, PrepareTemplateInput};

/// Tries of a step: enough for a PostgreSQL server to be restarted meanwhile.
const TRIES: u32 = 12;

/// Every kind of operation on previews.
pub fn kinds(world: &Arc<PreviewWorld>) -> Vec<Arc<dyn OperationKind>> {
    let world = || Arc::clone(world);
    vec![
        Arc::new(ensure::Ensure(world())),
        Arc::new(delete::Delete(world())),
        Arc::new(reset::Reset(world())),
        Arc::new(pool::PoolFill(world())),
        Arc::new(pool::PoolDrop(world())),
        Arc::new(template::PrepareTemplate(world())),
    ]
}

/// A step that lives through a restart of PostgreSQL.
fn step(name: &str) -> StepPlan {
    StepPlan::new(name).tries(TRIES)
}

fn unknown_step(kind: &str, step: &str) -> StepError {
    StepError::lasting("unknown_step", format!("{kind} has no step {step}; was it written by a newer pgdb?"))
}

/// The server of an operation's input.
async fn server(world: &PreviewWorld, key: &str) -> Result<Arc<Server>, StepError> {
    let gone = || StepError::lasting("preview_target_missing", "the instance that the preview was on is gone");
    world.server_of(key).await?.ok_or_else(gone)
}

/// The preview of an operation's input.
async fn place(world: &PreviewWorld, target: &str, template: &str, number: u64) -> Result<Place, StepError> {
    let number = PrNumber::new(number).map_err(|error| StepError::lasting("bad_input", error.to_string()))?;
    Ok(world.place(server(world, target).await?, Some(template), number)?)
}

/// Whether a delete's role is gone, and else why not.
pub fn role_outcome(operation: &OperationRecord) -> (bool, Option<String>) {
    let output = operation.steps.iter().find(|step| step.name == delete::DROP_ROLE).map(|step| &step.output);
    let reason = output.and_then(|output| output["kept_reason"].as_str()).map(str::to_owned);
    (reason.is_none(), reason)
}

/// The end of a copy, noted for the next ones.
fn copied(target: &str, template: &str, copied: Option<Copied>) -> StepDone {
    let (target, template) = (target.to_owned(), template.to_owned());
    match copied {
        Some(copied) => {
            StepDone::commit(move |connection| templates::note_copy(connection, &target, &template, copied))
        }
        None => StepDone::empty(),
    }
}
