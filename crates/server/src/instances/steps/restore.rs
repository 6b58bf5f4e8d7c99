//! `instance.restore`: a dump is read into a fresh database, which then takes the place of the present one.
//!
//! Until the swap the present database is not touched; after it the old one is dropped.

use super::super::world::{World, pg, runtime_step};
use super::{present, subject, unknown_step};
use crate::operations::record::{self, Filter};
use crate::operations::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use pgdb_core::operation::OperationState;
use pgdb_pg::connect::Client;
use pgdb_pg::swap;
use pgdb_runtime::RuntimeError;
use pgdb_runtime::spec::Tool;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::instances) const RESTORE: &str = "instance.restore";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::instances) struct RestoreInput {
    pub(in crate::instances) id: String,
    /// The dump, in `pg_dump`'s custom format; ours to remove.
    pub(in crate::instances) spool: PathBuf,
}

pub(super) struct Restore(pub(super) Arc<World>);

/// The database that the dump is read into.
fn incoming(db: &str) -> String {
    format!("{db}_restoring")
}

/// The database that was replaced.
fn outgoing(db: &str) -> String {
    format!("{db}_replaced")
}

#[async_trait]
impl OperationKind for Restore {
    fn kind(&self) -> &str {
        RESTORE
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let load = StepPlan::new("load").timeout(Duration::from_secs(24 * 3600));
        vec![
            StepPlan::new("create_database"),
            load,
            StepPlan::new("swap"),
            StepPlan::new("remove_dump"),
            StepPlan::new("drop_old").no_way_back(),
        ]
    }

    fn place(&self, _: &Value) -> Place {
        Place::Long
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: RestoreInput = cx.input()?;
        let subject = present(&self.0, cx).await?;
        let instance = &subject.instance;
        let (incoming, outgoing) = (incoming(&instance.db), outgoing(&instance.db));
        match step {
            "create_database" => {
                let admin = self.0.admin(instance, "postgres").await?;
                self.clear_replaced(&admin, &outgoing, cx).await?;
                // What an interrupted try has left is not known; start over.
                swap::drop_database(&admin, &incoming).await.map_err(pg)?;
                swap::create_database(&admin, &incoming, &instance.user).await.map_err(pg)?;
            }
            "load" => {
                let admin = self.0.admin(instance, "postgres").await?;
                // What an interrupted try has read is not known.
                swap::drop_database(&admin, &incoming).await.map_err(pg)?;
                swap::create_database(&admin, &incoming, &instance.user).await.map_err(pg)?;
                // As the instance's own role: a dump is somebody's program, and must not run as a superuser.
                let args = ["--exit-on-error", "--no-owner", "--no-privileges", "--single-transaction", "--dbname"];
                let mut args: Vec<String> = args.map(str::to_owned).to_vec();
                args.push(incoming.clone());
                let password = self.0.password(instance)?;
                let tool = Tool {
                    program: "pg_restore",
                    args: &args,
                    user: &instance.user,
                    password: Some(&password),
                    db: &incoming,
                    stdin: Some(input.spool),
                };
                let running = subject.runtime.tool(&subject.spec, tool).await.map_err(runtime_step)?;
                tokio::select! {
                    finished = running.finished => finished.map_err(load_failed)?,
                    () = cx.cancelled.cancelled() => return Err(StepError::lasting("cancelled", "the restore was cancelled")),
                }
            }
            "swap" => {
                let admin = self.0.admin(instance, "postgres").await?;
                swap::swap_databases(&admin, &instance.db, &incoming, &outgoing).await.map_err(pg)?;
            }
            "drop_old" => {
                // The restore has reached its goal. A drop that fails may have been begun, so there is no way back from
                // it: what is left is noted, and the next restore clears it away.
                let dropped = async {
                    let admin = self.0.admin(instance, "postgres").await?;
                    swap::drop_database(&admin, &outgoing).await.map_err(pg)
                };
                if let Err(error) = dropped.await {
                    tracing::warn!(instance = %instance.name, error = %error.message, "the replaced database could not be dropped");
                    return Ok(StepDone::output(json!({ "left_behind": outgoing })));
                }
            }
            "remove_dump" => remove_spool(&input.spool).await?,
            other => return Err(unknown_step(RESTORE, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: RestoreInput = cx.input()?;
        let Some(subject) = subject(&self.0, cx).await? else { return remove_spool(&input.spool).await };
        let instance = &subject.instance;
        match step {
            "swap" => {
                let admin = self.0.admin(instance, "postgres").await?;
                if swap::database_exists(&admin, &outgoing(&instance.db)).await.map_err(pg)? {
                    swap::swap_databases(&admin, &instance.db, &outgoing(&instance.db), &incoming(&instance.db))
                        .await
                        .map_err(pg)?;
                }
            }
            "create_database" => {
                // The upload first: it can always go.
                remove_spool(&input.spool).await?;
                let admin = self.0.admin(instance, "postgres").await?;
                swap::drop_database(&admin, &incoming(&instance.db)).await.map_err(pg)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Restore {
    /// Drops the database that an earlier restore replaced and could not drop. If that restore did not succeed it may
    /// be the only copy of the data, and a person has to look.
    async fn clear_replaced(&self, admin: &Client, outgoing: &str, cx: &StepContext) -> Result<(), StepError> {
        let filter = Filter {
            subject: Some(cx.operation.subject.clone()),
            kind: Some(RESTORE.to_owned()),
            before: Some(cx.operation.id.clone()),
            state: None,
        };
        let earlier = self.0.store.read(move |connection| record::page(connection, &filter, 1)).await?;
        if earlier.first().is_some_and(|earlier| earlier.state == OperationState::Succeeded) {
            return swap::drop_database(admin, outgoing).await.map_err(pg);
        }
        if swap::database_exists(admin, outgoing).await.map_err(pg)? {
            let message = format!(
                "an earlier restore left the database {outgoing} behind, which may hold data that is nowhere else; look \
                 at it, drop or rename it, and restore again"
            );
            return Err(StepError::lasting("postgres_failed", message));
        }
        Ok(())
    }
}

/// Why a dump could not be read: mostly because of what is in it, which trying again does not change.
pub(crate) fn load_failed(error: RuntimeError) -> StepError {
    let RuntimeError::ToolFailed { stderr, .. } = &error else {
        return StepError { passing: false, ..runtime_step(error) };
    };
    let has = |text: &str| stderr.contains(text);
    let message = error.to_string();
    if has("No space left on device") || has("could not extend file") {
        return StepError::lasting("disk_full", message);
    }
    if has("connection to server") || has("server closed the connection") || has("terminating connection") {
        return StepError::lasting("postgres_failed", message);
    }
    StepError::lasting("invalid_dump", message)
}

async fn remove_spool(path: &std::path::Path) -> Result<(), StepError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StepError::passing(
            "spool_left",
            format!("could not remove the uploaded dump {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}
