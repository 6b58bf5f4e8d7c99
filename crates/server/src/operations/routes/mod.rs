//! Operations over HTTP.

mod answer;
mod cancel;
mod events;
mod kinds;
mod list;
mod show;

pub(crate) use answer::{accepted, answer};

use super::record::{OperationRecord, StepRecord};
use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_api::operations::{Operation, OperationError, Step};
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    let read = || Rule::scope(Scope::OperationsRead);
    Routes::new()
        .route(read(), routes!(list::list_operations))
        .route(read(), routes!(kinds::operation_kinds))
        .route(read(), routes!(show::show_operation))
        .route(read().streams(), routes!(events::operation_events))
        .route(Rule::scope(Scope::InstancesWrite), routes!(cancel::cancel_operation))
}

/// An operation as it is sent.
pub(crate) fn wire(operation: &OperationRecord) -> Operation {
    Operation {
        id: operation.id.clone(),
        kind: operation.kind.clone(),
        subject: operation.subject.clone(),
        state: operation.state.as_str().to_owned(),
        created_at: operation.created_at,
        finished_at: operation.finished_at,
        error: error(operation.error.as_ref()),
        steps: operation.steps.iter().map(step).collect(),
    }
}

fn step(step: &StepRecord) -> Step {
    Step {
        name: step.name.clone(),
        state: step.state.as_str().to_owned(),
        attempt: step.attempt,
        started_at: step.started_at,
        finished_at: step.finished_at,
        output: (!step.output.is_null()).then(|| step.output.clone()),
        error: error(step.error.as_ref()),
    }
}

fn error(error: Option<&(String, String)>) -> Option<OperationError> {
    error.map(|(code, message)| OperationError { code: code.clone(), message: message.clone() })
}
