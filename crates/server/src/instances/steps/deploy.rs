//! `instance.deploy`: from a row to a server that its owner can log in to.

use super::super::record;
use super::super::world::{World, pg, runtime_step};
use super::{START_LIMIT, Subject, present, subject, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use pgdb_core::instance::InstanceState;
use pgdb_pg::provision::{self, Claim};
use pgdb_pg::scram;
use pgdb_runtime::RuntimeError;
use pgdb_runtime::spec::{ADMIN_ROLE, Observed, PREPARED_DB, PREPARED_ROLE, ServerSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::instances) const DEPLOY: &str = "instance.deploy";

/// Ports tried before a deploy gives up; each try costs a failed start.
const PORT_TRIES: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::instances) struct DeployInput {
    pub(in crate::instances) id: String,
    /// A kept volume to take into use.
    pub(in crate::instances) from_volume: Option<String>,
    /// Whether the original daemon has kept it: then its role and database are found in it.
    #[serde(default)]
    pub(in crate::instances) of_the_original: bool,
}

pub(super) struct Deploy(pub(super) Arc<World>);

#[async_trait]
impl OperationKind for Deploy {
    fn kind(&self) -> &str {
        DEPLOY
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        // The first deploy of a major makes its prepared directory, which takes a second or, on a slow disk, many.
        let prepare = StepPlan::new("prepare").timeout(Duration::from_secs(600));
        let copy = StepPlan::new("copy").timeout(Duration::from_secs(600));
        let start = StepPlan::new("start").timeout(START_LIMIT);
        let rest = ["claim", "verify"].map(StepPlan::new).to_vec();
        [vec![prepare, copy, StepPlan::new("configure"), start], rest].concat()
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: DeployInput = cx.input()?;
        let mut subject = present(&self.0, cx).await?;
        let _lock = self.0.lock(&input.id).await;
        match step {
            "prepare" => subject.runtime.prepare(subject.spec.major).await.map_err(runtime_step)?,
            "copy" => self.copy(&subject, &input).await?,
            "configure" => subject.runtime.configure(&subject.spec).await.map_err(runtime_step)?,
            "start" => return self.start(&mut subject, &input, cx).await,
            "claim" => return self.claim(subject, input).await,
            "verify" => return self.verify(&subject, input).await,
            other => return Err(unknown_step(DEPLOY, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, step: &str, cx: &StepContext) -> Result<(), StepError> {
        let input: DeployInput = cx.input()?;
        let Some(subject) = subject(&self.0, cx).await? else { return Ok(()) };
        let _lock = self.0.lock(&input.id).await;
        match step {
            "start" => subject.runtime.stop(&subject.spec).await.map_err(runtime_step),
            // Data that was kept before goes back to where it was; it is not ours to remove.
            "copy" => match input.from_volume {
                Some(volume) => self.put_back(subject, volume).await,
                None => subject.runtime.remove(&subject.spec).await.map_err(runtime_step),
            },
            "prepare" => Ok(self.0.store.write(move |connection| record::delete(connection, &input.id)).await?),
            _ => Ok(()),
        }
    }
}

impl Deploy {
    async fn copy(&self, subject: &Subject, input: &DeployInput) -> Result<(), StepError> {
        match &input.from_volume {
            Some(volume) => subject.runtime.restore_kept(volume, &subject.spec).await.map_err(runtime_step),
            None => subject.runtime.create(&subject.spec).await.map_err(runtime_step),
        }
    }

    /// Puts data that was kept under `volume` back there.
    async fn put_back(&self, subject: Subject, volume: String) -> Result<(), StepError> {
        let spec = ServerSpec { volume: volume.clone(), ..subject.spec };
        let observed = subject.runtime.observe(&spec).await.map_err(runtime_step)?;
        if observed == Observed::Missing && subject.runtime.kept(&volume).await.map_err(runtime_step)?.is_some() {
            // It was never taken, or is back already.
            return subject.runtime.remove(&spec).await.map_err(runtime_step);
        }
        // The name is this data's for as long as its row is there.
        let mut reserved = self.0.store.read(record::volumes).await?;
        reserved.remove(&volume);
        let kept = subject.runtime.keep(&spec, &reserved).await.map_err(runtime_step)?;
        if kept == volume {
            return Ok(());
        }
        // Somebody has put files there by hand.
        Ok(self.0.store.write(move |connection| record::rename_volume(connection, &volume, &kept)).await?)
    }

    /// Starts the server, with the next port when something else has taken the one that was given out.
    async fn start(&self, subject: &mut Subject, input: &DeployInput, cx: &StepContext) -> Result<StepDone, StepError> {
        let mut refused = BTreeSet::new();
        let again = cx.operation.steps.iter().any(|step| step.name == "start" && step.attempt > 1);
        loop {
            // What is to be started may be gone, if a try was interrupted while it was made anew.
            if again || !refused.is_empty() {
                self.copy(subject, input).await?;
                subject.runtime.configure(&subject.spec).await.map_err(runtime_step)?;
            }
            let error = match subject.runtime.start(&subject.spec).await {
                Ok(()) => return Ok(StepDone::output(json!({ "port": subject.spec.port }))),
                Err(error) => error,
            };
            if !matches!(error, RuntimeError::PortTaken { .. }) || refused.len() >= PORT_TRIES {
                return Err(runtime_step(error));
            }
            tracing::info!(instance = %subject.instance.name, port = subject.spec.port, "the port is taken; trying the next one");
            refused.insert(subject.spec.port);
            subject.spec.port = self.next_port(&subject.instance.id, refused.clone()).await?;
            subject.instance.port = subject.spec.port;
        }
    }

    async fn next_port(&self, id: &str, refused: BTreeSet<u16>) -> Result<u16, StepError> {
        let (id, range) = (id.to_owned(), self.0.config.port_range);
        let port = self.0.store.write(move |connection| {
            let taken = &record::ports(connection)? | &refused;
            let port = range.first_free(&taken).ok_or_else(|| super::super::checks::ports_used_up(range))?;
            record::set_port(connection, &id, port)?;
            Ok(port)
        });
        Ok(port.await?)
    }

    /// Gives the prepared database and role their names and the role its password.
    async fn claim(&self, subject: Subject, input: DeployInput) -> Result<StepDone, StepError> {
        let instance = subject.instance;
        let verifier = scram::verifier(&self.0.password(&instance)?);
        let client = self.0.admin(&instance, "postgres").await?;
        if input.of_the_original {
            let (user, db) = provision::first_owner(&client).await.map_err(pg)?;
            if user == ADMIN_ROLE {
                let message = "the volume holds a copy of data that a pgdb has made, and not the original daemon's; restore a \
                               dump of it instead";
                return Err(StepError::lasting("not_ours", message.to_owned()));
            }
            provision::set_password(&client, &user, &verifier).await.map_err(pg)?;
            return Ok(StepDone::commit(move |connection| {
                record::set_originals_owner(connection, &input.id, &user, &db)
            }));
        }
        let (role, db) = (instance.user.as_str(), instance.db.as_str());
        if input.from_volume.is_some() {
            provision::adopt_existing(&client, role, db, &verifier).await.map_err(pg)?;
            return Ok(StepDone::empty());
        }
        let claim = Claim {
            prepared_role: PREPARED_ROLE,
            prepared_db: PREPARED_DB,
            role,
            db,
            verifier: &verifier,
            superuser: instance.superuser,
        };
        provision::claim_prepared(&client, claim).await.map_err(pg)?;
        Ok(StepDone::empty())
    }

    /// Logs in as the owner will, and makes the data durable meanwhile.
    async fn verify(&self, subject: &Subject, input: DeployInput) -> Result<StepDone, StepError> {
        let password = self.0.password(&subject.instance)?;
        let login = async {
            let client = self.0.login(&subject.instance, &password).await?;
            client.batch("ask the new server", "SELECT 1").await.map_err(pg)
        };
        let sync = async { subject.runtime.sync(&subject.spec).await.map_err(runtime_step) };
        tokio::try_join!(login, sync)?;
        let observed = subject.runtime.observe(&subject.spec).await.map_err(runtime_step)?;
        Ok(StepDone::commit(move |connection| {
            if let Observed::Running { container: Some(container), .. } = &observed {
                record::set_container(connection, &input.id, container)?;
            }
            if let Some(volume) = &input.from_volume {
                record::delete_volume(connection, volume)?;
            }
            record::set_state(connection, &input.id, InstanceState::Running, None)
        }))
    }
}
