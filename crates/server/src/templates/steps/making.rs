//! What every way of making a template anew has in common: an empty database, checks, a holder, and the swap.

use super::super::record::{self, DefinitionRecord, Holds};
use super::names::Names;
use crate::instances::world::pg;
use crate::migrations::{self, Parties, Set};
use crate::operations::{StepContext, StepDone, StepError};
use crate::previews::PreviewWorld;
use crate::previews::server::{Server, ending};
use crate::previews::templates::{self, TemplateRecord};
use pgdb_api::migrations::MigrationPolicy;
use pgdb_core::copying::Strategy;
use pgdb_core::migration::plan::plan;
use pgdb_pg::migrate::ledger;
use pgdb_pg::script::{self, CheckOutcome};
use pgdb_pg::{Client, copying, handover, swap};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

/// A template that is being made anew.
pub(super) struct Making<'a> {
    pub(super) world: &'a PreviewWorld,
    pub(super) server: Arc<Server>,
    pub(super) names: Names,
}

impl<'a> Making<'a> {
    pub(super) async fn new(world: &'a PreviewWorld, names: Names) -> Result<Self, StepError> {
        let gone = || StepError::lasting("preview_target_missing", "the instance that the template was on is gone");
        let server = world.server_of(&names.target).await?.ok_or_else(gone)?;
        Ok(Self { world, server, names })
    }

    /// The same for who takes something back: none where the server is gone, and with it everything that was made on it.
    pub(super) async fn if_there(world: &'a PreviewWorld, names: Names) -> Result<Option<Self>, StepError> {
        let server = world.server_of(&names.target).await?;
        Ok(server.map(|server| Self { world, server, names }))
    }

    /// How the template is made.
    pub(super) async fn definition(&self) -> Result<DefinitionRecord, StepError> {
        let (target, name) = (self.names.target.clone(), self.names.template.clone());
        let found = self.world.store.read(move |connection| record::find(connection, &target, &name)).await?;
        found.ok_or_else(|| StepError::lasting("template_not_found", "the template's definition is gone"))
    }

    pub(super) async fn admin_url(&self, definition: &DefinitionRecord) -> Result<Option<SecretString>, StepError> {
        let aad = crate::secrets::TEMPLATE_ADMIN.aad(&definition.id);
        Ok(definition.admin_url.as_ref().map(|sealed| self.world.unseal(&aad, sealed)).transpose()?)
    }

    pub(super) async fn source_url(&self, definition: &DefinitionRecord) -> Result<Option<SecretString>, StepError> {
        let aad = crate::secrets::TEMPLATE_SOURCE.aad(&definition.id);
        Ok(definition.source_url.as_ref().map(|sealed| self.world.unseal(&aad, sealed)).transpose()?)
    }

    /// Makes the empty database; whatever an interrupted try has left goes first, for nobody knows what it is.
    pub(super) async fn fresh_staging(&self) -> Result<(), StepError> {
        self.drop_staging().await?;
        let owner = self.world.loader(&self.server).await?.role;
        let session = self.world.session(&self.server).await?;
        let staging = &self.names.staging;
        swap::create_database(&session, staging, &owner).await.map_err(pg)?;
        session.release();
        let revoke = async |session: &Client| swap::revoke_connect_from_public(session, staging).await.map_err(pg);
        self.world.alone(&self.server, revoke).await
    }

    /// Makes the database anew as a copy of the template.
    pub(super) async fn copied_staging(&self) -> Result<(), StepError> {
        self.drop_staging().await?;
        let Names { template, staging, .. } = &self.names;
        // Closed, and everything in it the holder's.
        let prepared = self.world.prepare_database(&self.server, template, template).await?;
        let loader = self.world.loader(&self.server).await?;
        let may_change = async |session: &Client| {
            handover::let_act_as_holder(session, &prepared.holder, &loader.role).await.map_err(pg)
        };
        self.world.alone(&self.server, may_change).await?;
        let strategy = Strategy::parse(&prepared.strategy);
        let session = self.world.session(&self.server).await?;
        let permit = self.server.clones.acquire().await.map_err(ending)?;
        copying::copy(&session, staging, template, &loader.role, strategy).await.map_err(pg)?;
        drop(permit);
        session.release();
        let revoke = async |session: &Client| swap::revoke_connect_from_public(session, staging).await.map_err(pg);
        self.world.alone(&self.server, revoke).await?;
        let inside = self.world.connect(&self.server, Some(staging)).await?;
        handover::dress_copy(&inside, template, staging, &prepared.holder).await.map_err(pg)?;
        inside.close().await;
        Ok(())
    }

    /// How many files the new database lacks, or may not have run in it.
    pub(super) async fn lacks(&self, set: &Set, policy: &MigrationPolicy) -> Result<usize, StepError> {
        let inside = self.world.connect(&self.server, Some(&self.names.staging)).await?;
        let rows = match handover::keeps_ledger(&inside).await.map_err(pg)? {
            true => ledger::read(&inside).await.map_err(pg)?.unwrap_or_default(),
            false => Vec::new(),
        };
        inside.close().await;
        let (files, options) = (set.files(), migrations::options(policy)?);
        let plan = plan(&files, &rows, options.policy);
        Ok(plan.to_run().count() + plan.refusals().count())
    }

    /// Brings the new database up to date, files as the role that everything in it belongs to, the ledger as the
    /// operator. Gives the report of the run.
    pub(super) async fn migrate(
        &self,
        set: &Set,
        policy: &MigrationPolicy,
        cx: &StepContext,
    ) -> Result<Value, StepError> {
        let staging = &self.names.staging;
        let loader = self.world.loader(&self.server).await?;
        let keeper = match loader.is_operator() {
            true => None,
            false => Some(self.world.connect(&self.server, Some(staging)).await?),
        };
        let parties = Parties { files: loader.login(staging), keeper };
        let options = migrations::options(policy)?;
        let report = migrations::run(parties, &set.files(), &options, &cx.cancelled).await?;
        migrations::verdict(&report)?;
        serde_json::to_value(report).map_err(|error| StepError::lasting("internal", error.to_string()))
    }

    /// Drops what a try has made.
    pub(super) async fn drop_staging(&self) -> Result<(), StepError> {
        self.world.drop_database(&self.server, &self.names.staging).await
    }

    /// Runs a script in the new database, as the role that everything in it belongs to.
    pub(super) async fn run(&self, what: &str, action: &'static str, sql: &str) -> Result<(), StepError> {
        let client = self.inside().await?;
        let done = script::run_whole(&client, action, sql).await;
        client.close().await;
        done.map_err(|error| {
            let step = pg(error);
            // A passing error is the server's; any other one is the script's, which trying again does not change.
            if step.passing {
                step
            } else {
                StepError::lasting("template_script_failed", format!("{what}: {}", step.message))
            }
        })
    }

    async fn inside(&self) -> Result<Client, StepError> {
        self.world.loader(&self.server).await?.connect(&self.names.staging).await
    }

    /// Runs the checks that the definition names.
    pub(super) async fn check(&self, definition: &DefinitionRecord) -> Result<StepDone, StepError> {
        let client = self.inside().await?;
        for (number, sql) in definition.checks.iter().enumerate() {
            let outcome = script::run_check(&client, sql).await;
            let why = match outcome {
                Ok(CheckOutcome::Passed) => continue,
                Ok(CheckOutcome::Failed(value)) => format!("gave {value}"),
                Ok(CheckOutcome::NoRow) => "gave no row".to_owned(),
                Err(error) => {
                    let step = pg(error);
                    if step.passing {
                        return Err(step);
                    }
                    step.message
                }
            };
            let shown: String = sql.chars().take(200).collect();
            let message = format!("check {} of {} did not hold ({why}): {shown}", number + 1, definition.checks.len());
            return Err(StepError::lasting("template_check_failed", message));
        }
        client.close().await;
        Ok(StepDone::output(json!({ "checks": definition.checks.len() })))
    }

    /// Makes the new database fit for being cloned.
    pub(super) async fn prepare(&self) -> Result<StepDone, StepError> {
        let staging = &self.names.staging;
        // An interrupted try may have closed it.
        let open = async |session: &Client| swap::allow_connections(session, staging, true).await.map_err(pg);
        self.world.alone(&self.server, open).await?;
        let client = self.world.connect(&self.server, Some(&self.names.staging)).await?;
        client.batch("vacuum and analyze the new template", "VACUUM (ANALYZE)").await.map_err(pg)?;
        client.close().await;
        self.world.make_own_roles(&self.server).await?;
        let owner = self.world.config.settings.owner();
        let give = async |session: &Client| swap::set_owner(session, staging, owner).await.map_err(pg);
        self.world.alone(&self.server, give).await?;
        let found = self.world.prepare_database(&self.server, &self.names.staging, &self.names.template).await?;
        Ok(StepDone::output(
            serde_json::to_value(found).map_err(|error| StepError::lasting("internal", error.to_string()))?,
        ))
    }

    /// Puts the new database in the template's place. Whoever wants to clone waits for that, and for no more.
    pub(super) async fn swap(&self, cx: &StepContext) -> Result<StepDone, StepError> {
        let made: TemplateRecord = cx.output("prepare")?;
        let Names { template, staging, previous, outdated, .. } = &self.names;
        self.exchange(async |session| {
            if swap::oid(session, template).await.map_err(pg)? == Some(made.oid) {
                return Ok(vec![]);
            }
            let mut pairs = Vec::new();
            if swap::oid(session, template).await.map_err(pg)?.is_some() {
                if swap::owner(session, previous).await.map_err(pg)?.is_some() {
                    pairs.push((previous.as_str(), outdated.as_str()));
                }
                pairs.push((template.as_str(), previous.as_str()));
            }
            pairs.push((staging.as_str(), template.as_str()));
            Ok(pairs)
        })
        .await?;
        Ok(StepDone::commit(move |connection| templates::put(connection, &made)))
    }

    /// Takes a swap back, if it was done.
    pub(super) async fn swap_back(&self, cx: &StepContext) -> Result<(), StepError> {
        // Without the record the step before has not ended, and so this one never began.
        let Ok(made) = cx.output::<TemplateRecord>("prepare") else { return Ok(()) };
        let Names { template, staging, previous, outdated, .. } = &self.names;
        self.exchange(async |session| {
            if swap::oid(session, template).await.map_err(pg)? != Some(made.oid) {
                return Ok(vec![]);
            }
            let mut pairs = vec![(template.as_str(), staging.as_str())];
            let had_template = swap::owner(session, previous).await.map_err(pg)?.is_some();
            if had_template {
                pairs.push((previous.as_str(), template.as_str()));
            }
            if swap::owner(session, outdated).await.map_err(pg)?.is_some() {
                pairs.push((outdated.as_str(), previous.as_str()));
            }
            Ok(pairs)
        })
        .await
    }

    /// Renames what `choose` says, while nobody copies and nobody changes shared catalogs.
    pub(super) async fn exchange<'n>(
        &self,
        choose: impl AsyncFnOnce(&Client) -> Result<Vec<(&'n str, &'n str)>, StepError>,
    ) -> Result<(), StepError> {
        let copies = self.world.config.clones;
        let _no_copy = self.server.clones.acquire_many(copies).await.map_err(ending)?;
        let _catalog = self.server.catalog.lock().await;
        let session = self.world.session(&self.server).await?;
        let pairs = choose(&session).await?;
        if !pairs.is_empty() {
            swap::rename_templates(&session, &pairs).await.map_err(pg)?;
        }
        session.release();
        Ok(())
    }

    /// Drops what is not needed any more. The template stands; what cannot be dropped now is told, not tried for ever.
    pub(super) async fn tidy(&self, cx: &StepContext, holds: Holds) -> Result<StepDone, StepError> {
        let definition = self.definition().await?;
        self.world
            .instances
            .clients
            .remove_scratch(&self.names.scratch)
            .await
            .map_err(crate::instances::world::runtime_step)?;
        let left = match self.world.drop_database(&self.server, &self.names.outdated).await {
            Ok(()) => Value::Null,
            Err(error) => {
                tracing::warn!(operation = %cx.operation.id, database = %self.names.outdated, error = %error.message,
                    "a template of before could not be dropped");
                json!({ "left_behind": self.names.outdated })
            }
        };
        let now = self.world.clock.now();
        let mut done = StepDone::commit(move |connection| record::made_anew(connection, &definition.id, now, &holds));
        done.output = left;
        Ok(done)
    }
}
