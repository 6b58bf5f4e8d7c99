//! Faults that the crash test asks for, in debug builds only.
//!
//! `PGDB_FAULTS` is a list, separated by commas, of `KIND/STEP/POINT`:
//! - `before`, `unrecorded`, `after`, `undo-before`, `undo-unrecorded`, `undo-after`: SIGKILL at that point;
//! - `inside@MS`: SIGKILL that many milliseconds after the step began;
//! - `hold`: the step waits until the operation is cancelled, and does nothing;
//! - `pause@MS`: the step begins its work that many milliseconds later;
//! - `panic`: every try panics;
//! - `error`: every try fails for good; `error-once`: the first try fails with a passing error;
//! - `repeat`: the step is run a second time after it succeeded.

use super::definition::{StepContext, StepError};
use super::record::{OperationRecord, StepRecord};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::LazyLock;
use std::time::Duration;

static FAULTS: LazyLock<Vec<String>> =
    LazyLock::new(|| std::env::var("PGDB_FAULTS").unwrap_or_default().split(',').map(str::to_owned).collect());

fn wants(operation: &OperationRecord, step: &str, point: &str) -> bool {
    !FAULTS.is_empty() && FAULTS.iter().any(|fault| *fault == format!("{}/{step}/{point}", operation.kind))
}

/// Kills this process if this point was asked for.
pub(super) async fn strike(operation: &OperationRecord, step: &str, point: &str) {
    if wants(operation, step, point) {
        die().await;
    }
}

/// Kills this process a while from now if that was asked for.
pub(super) fn strike_inside(operation: &OperationRecord, step: &str) {
    if let Some(delay) = delay(operation, step, "inside") {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            die().await;
        });
    }
}

fn delay(operation: &OperationRecord, step: &str, point: &str) -> Option<Duration> {
    let prefix = format!("{}/{step}/{point}@", operation.kind);
    let ms = FAULTS.iter().find_map(|fault| fault.strip_prefix(&prefix)?.parse().ok());
    ms.map(Duration::from_millis)
}

/// Holds the step up or panics in it, if that was asked for.
pub(super) async fn within(cx: &StepContext, step: &str) -> Result<(), StepError> {
    if wants(&cx.operation, step, "hold") {
        cx.cancelled.cancelled().await;
        return Err(StepError::lasting("cancelled", "the operation was cancelled"));
    }
    if let Some(delay) = delay(&cx.operation, step, "pause") {
        tokio::time::sleep(delay).await;
    }
    assert!(!wants(&cx.operation, step, "panic"), "the crash test made this step panic");
    Ok(())
}

pub(super) fn error(operation: &OperationRecord, step: &StepRecord) -> Result<(), StepError> {
    if wants(operation, &step.name, "error") {
        return Err(StepError::lasting("injected", "the crash test made this step fail"));
    }
    if wants(operation, &step.name, "error-once") && step.failures == 0 {
        return Err(StepError::passing("injected", "the crash test made this step fail once"));
    }
    Ok(())
}

pub(super) fn repeats(operation: &OperationRecord, step: &str) -> bool {
    wants(operation, step, "repeat")
}

async fn die() {
    // Nothing may run after this point; the signal is delivered before the call returns to this thread.
    let _ = kill(Pid::this(), Signal::SIGKILL);
    std::future::pending::<()>().await;
}
