//! `template.delete`: everything of a template goes. Forward only, so that asking again finishes what was interrupted.

use super::super::record;
use super::making::Making;
use super::names::{Names, is_staging};
use super::{step, unknown_step};
use crate::instances::world::pg;
use crate::operations::record as operation_rows;
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use crate::previews::PreviewWorld;
use crate::previews::entries;
use crate::previews::templates;
use async_trait::async_trait;
use pgdb_pg::{Client, handover, inventory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub(crate) const DELETE: &str = "template.delete";

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeleteInput {
    /// The server.
    pub target: String,
    /// The template.
    pub template: String,
}

pub(super) struct Delete(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Delete {
    fn kind(&self) -> &str {
        DELETE
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let drop = |name: &str| step(name).timeout(Duration::from_secs(600));
        vec![drop("drop_pool"), drop("drop_databases"), step("forget")]
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: DeleteInput = cx.input()?;
        let names = Names::new(&input.target, &input.template, self.0.clock.now(), &*self.0.entropy);
        let making = Making::new(&self.0, names).await?;
        match step {
            "drop_pool" => drop_pool(&making).await,
            "drop_databases" => drop_databases(&making).await,
            "forget" => {
                let kept = drop_holder(&making).await?;
                let mut done = StepDone::commit(move |connection| {
                    templates::forget(connection, &input.target, &input.template)?;
                    record::delete(connection, &input.target, &input.template)
                });
                done.output = kept.map_or(Value::Null, |why| json!({ "holder_kept": why }));
                Ok(done)
            }
            other => Err(unknown_step(DELETE, other)),
        }
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// Removes what is kept ready. An entry that somebody works on at this moment is waited for.
async fn drop_pool(making: &Making<'_>) -> Result<StepDone, StepError> {
    let Names { target, template, .. } = &making.names;
    let all = making.world.store.read(entries::all).await?;
    for entry in all.into_iter().filter(|entry| entry.target == *target && entry.template == *template) {
        let subject = format!("pool/{target}/{}", entry.db);
        let active = making.world.store.read(move |connection| operation_rows::active_on(connection, &subject)).await?;
        if active.is_some() {
            return Err(StepError::passing("preview_busy", format!("{} is being made or removed", entry.db)));
        }
        making.world.drop_database(&making.server, &entry.db).await?;
        making.world.drop_role(&making.server, &entry.role).await?;
        let forget = move |connection: &rusqlite::Connection| entries::delete(connection, &entry.target, &entry.db);
        making.world.store.write(forget).await?;
    }
    Ok(StepDone::empty())
}

/// Drops the template, the one before it and what refreshes have left. A database that never had a holder is nothing of
/// ours, whatever it is called.
async fn drop_databases(making: &Making<'_>) -> Result<StepDone, StepError> {
    let Names { template, previous, .. } = &making.names;
    let session = making.world.session(&making.server).await?;
    let ours = handover::role_exists(&session, &holder(template)).await.map_err(pg)?;
    let found = inventory::databases(&session, template).await.map_err(pg)?;
    session.release();
    let mut dropped = Vec::new();
    for db in found.into_iter().map(|found| found.name) {
        if (db == *template && ours) || db == *previous || is_staging(template, &db) {
            making.world.disconnect(&making.server, &db).await?;
            making.world.drop_database(&making.server, &db).await?;
            dropped.push(db);
        }
    }
    Ok(StepDone::output(json!({ "dropped": dropped })))
}

/// Drops the role that the objects belonged to, or tells why it has to stay.
async fn drop_holder(making: &Making<'_>) -> Result<Option<String>, StepError> {
    let holder = holder(&making.names.template);
    let drop = async |session: &Client| match handover::drop_role(session, &holder).await {
        // An administrator has made it, and the operator may not drop it.
        Err(error) if error.sqlstate() == Some("42501") => Ok(Some("it is not the operator's to drop".to_owned())),
        done => done.map_err(pg),
    };
    making.world.alone(&making.server, drop).await
}

fn holder(template: &str) -> String {
    format!("{template}_owner")
}
