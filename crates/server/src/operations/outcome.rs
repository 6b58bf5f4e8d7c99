//! How an ended operation, or a failed step, is told to the one who asked for it.

use super::definition::StepError;
use super::record::OperationRecord;
use crate::problem::{Problem, ProblemKind};
use pgdb_core::operation::OperationState;

/// An ended operation as the answer to the one who waited for it.
pub fn outcome(operation: &OperationRecord) -> Result<(), Problem> {
    if operation.state == OperationState::Succeeded {
        return Ok(());
    }
    let (code, message) = operation.error.clone().unwrap_or_else(|| {
        let message = format!("{} of {} ended {}", operation.kind, operation.subject, operation.state);
        ("operation_failed".to_owned(), message)
    });
    Err(problem(&code, message).with_operation(&operation.id))
}

/// A step's error, where what it does was done for somebody who waits.
pub fn step_problem(error: StepError) -> Problem {
    problem(&error.code, error.message)
}

fn problem(code: &str, message: String) -> Problem {
    let known = FAILURES.iter().find(|(known, _)| *known == code);
    let (code, kind) = known.copied().unwrap_or(("operation_failed", ProblemKind::Upstream));
    Problem::new(kind, code, message)
}

/// The errors that an operation can end with, and whose turn it is then. Any other is upstream's.
const FAILURES: &[(&str, ProblemKind)] = &[
    ("cancelled", ProblemKind::Conflict),
    ("database_not_found", ProblemKind::NotFound),
    ("disk_full", ProblemKind::Busy),
    ("docker_failed", ProblemKind::Upstream),
    ("docker_unavailable", ProblemKind::Upstream),
    ("engine_missing", ProblemKind::Invalid),
    ("image_missing", ProblemKind::Invalid),
    ("internal", ProblemKind::Internal),
    ("invalid_dump", ProblemKind::Invalid),
    ("migration_failed", ProblemKind::Invalid),
    ("migration_locked", ProblemKind::Busy),
    ("migration_refused", ProblemKind::Conflict),
    ("not_ours", ProblemKind::Conflict),
    ("not_running", ProblemKind::Conflict),
    ("port_taken", ProblemKind::Conflict),
    ("ports_used_up", ProblemKind::Conflict),
    ("preview_bootstrap_other_server", ProblemKind::Conflict),
    ("preview_busy", ProblemKind::Busy),
    ("preview_target_missing", ProblemKind::Conflict),
    ("rollout_incomplete", ProblemKind::Upstream),
    ("sessions_remain", ProblemKind::Busy),
    ("invalid_value", ProblemKind::Invalid),
    ("template_check_failed", ProblemKind::Conflict),
    ("template_extension_missing", ProblemKind::Conflict),
    ("template_extension_untrusted", ProblemKind::Conflict),
    ("template_not_found", ProblemKind::NotFound),
    ("template_script_failed", ProblemKind::Invalid),
    ("template_source_missing", ProblemKind::Conflict),
    ("template_missing", ProblemKind::Conflict),
    ("template_not_ours", ProblemKind::Conflict),
    ("postgres_failed", ProblemKind::Upstream),
    ("runtime_failed", ProblemKind::Upstream),
    ("runtime_unavailable", ProblemKind::Invalid),
    ("server_failed", ProblemKind::Upstream),
    ("state_locked", ProblemKind::Busy),
    ("step_timeout", ProblemKind::Upstream),
    ("tool_failed", ProblemKind::Upstream),
    ("unsupported", ProblemKind::Invalid),
];
