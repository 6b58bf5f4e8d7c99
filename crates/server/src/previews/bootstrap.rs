//! `pgdb preview bootstrap`: the operator, the roles and the template are made or mended with an administrator's rights.
//!
//! Not an operation: it needs a password that is nowhere kept, each of its statements stands by itself, and asked again
//! it goes on where it has stopped.

use super::server::{EXTERNAL, external_target};
use super::service::PreviewService;
use crate::config::{ExternalServer, TargetConfig};
use crate::instances::world::pg;
use crate::operations::{StepError, step_problem};
use crate::problem::Problem;
use pgdb_pg::error::PgError;
use pgdb_pg::rights::{MissingRight, Roles, missing_rights};
use pgdb_pg::url::ParsedUrl;
use pgdb_pg::{Client, Target, bootstrap, connect, inventory, scram, swap};
use std::time::Duration;

const LOGIN: Duration = Duration::from_secs(15);
/// How often what is missing is looked for: mending one thing can bring another to light.
const ROUNDS: usize = 4;

impl PreviewService {
    /// Makes and mends what previews need on the configured server. Returns what was changed.
    pub async fn bootstrap(&self, admin: &ParsedUrl) -> Result<Vec<String>, Problem> {
        let TargetConfig::External(external) = &self.world.config.target else {
            let message = "previews are made on an instance of pgdb's own, which needs no bootstrap";
            return Err(Problem::conflict("preview_bootstrap_needless", message));
        };
        let password = self.world.operator_password.clone().ok_or_else(|| {
            Problem::invalid("invalid_value", "PGPASSWORD is not set, so the operator could not log in")
        })?;
        let done = async {
            let session = connect_admin(admin, &admin.db).await?;
            same_server(&session, admin, external).await?;
            let target = admin.target();
            let operator = external.user.as_str();
            let works = connect(&target, operator, Some(&password), "postgres", LOGIN).await.is_ok();
            let mut done = Vec::new();
            let verifier = scram::verifier(&password);
            done.extend(bootstrap::ensure_operator(&session, operator, &verifier, works).await.map_err(pg)?);
            let settings = &self.world.config.settings;
            done.extend(bootstrap::ensure_dev(&session, settings.dev_role()).await.map_err(pg)?);
            if settings.owner() != operator {
                done.extend(bootstrap::ensure_group(&session, settings.owner()).await.map_err(pg)?);
            }
            let owner = settings.owner();
            done.extend(bootstrap::ensure_template(&session, settings.template(), owner).await.map_err(pg)?);
            self.mend(&session, &mut done).await?;
            for template in self.world.templates_on(EXTERNAL).await.map_err(StepError::from)? {
                // One that was made by a refresh, and dropped by hand since.
                if swap::owner(&session, &template).await.map_err(pg)?.is_none() {
                    continue;
                }
                done.extend(bootstrap::ensure_template(&session, &template, owner).await.map_err(pg)?);
                let holder = format!("{template}_owner");
                done.extend(bootstrap::ensure_group(&session, &holder).await.map_err(pg)?);
                let family = settings.family(&template);
                let mut roles = inventory::roles(&session, family.app_prefix()).await.map_err(pg)?;
                roles.push(holder.clone());
                done.extend(bootstrap::ensure_admin_of(&session, operator, &roles).await.map_err(pg)?);
                swap::allow_connections(&session, &template, true).await.map_err(pg)?;
                let given = async {
                    let inside = connect_admin(admin, &template).await?;
                    let given = bootstrap::give_all(&inside, &holder).await.map_err(pg);
                    inside.close().await;
                    given
                };
                let given = given.await;
                swap::close_template(&session, &template).await.map_err(pg)?;
                done.extend(given?);
            }
            session.close().await;
            Ok(done)
        };
        let done: Result<Vec<String>, StepError> = done.await;
        // Sessions that were opened before may know less than is true now.
        if let Some(server) = self.world.server_of(EXTERNAL).await? {
            server.forget_sessions();
        }
        done.map_err(step_problem)
    }

    /// Gives the operator what it lacks, as it sees that itself.
    async fn mend(&self, admin: &Client, done: &mut Vec<String>) -> Result<(), StepError> {
        for _ in 0..ROUNDS {
            let missing = self.missing().await?;
            if missing.is_empty() {
                return Ok(());
            }
            for right in missing {
                let Some(sql) = right.sql else { continue };
                admin.batch("mend the operator's rights", &sql).await.map_err(pg)?;
                done.push(format!("{} Mended: {sql}", right.what));
            }
        }
        Ok(())
    }

    async fn missing(&self) -> Result<Vec<MissingRight>, StepError> {
        let server = self.world.server(None).await?;
        // A session of its own: rights that were granted since hold for new ones at the latest.
        let client = self.world.connect(&server, None).await?;
        let settings = &self.world.config.settings;
        let family = settings.family(settings.template());
        let roles = Roles {
            template: settings.template(),
            owner: settings.owner(),
            dev: settings.dev_role(),
            holder: &format!("{}_owner", settings.template()),
            app_prefix: family.app_prefix(),
        };
        let missing = missing_rights(&client, &roles).await.map_err(pg);
        client.close().await;
        missing
    }

    /// The major of the configured server. None where previews are made on an instance of our own, or it does not answer.
    pub async fn server_major(&self) -> Option<u16> {
        match self.world.config.target {
            TargetConfig::External(_) => {
                let server = self.world.server(None).await.ok()?;
                let session = self.world.session(&server).await.ok()?;
                let major = session.major();
                session.release();
                Some(major)
            }
            TargetConfig::Instance(_) => None,
        }
    }

    /// What the operator of the configured server may not do, each with the SQL that mends it. Nothing where previews
    /// are made on an instance of our own, or were never asked for.
    pub async fn missing_rights(&self) -> Option<Result<Vec<MissingRight>, Problem>> {
        match self.world.config.target {
            TargetConfig::External(_) => Some(self.missing().await.map_err(step_problem)),
            TargetConfig::Instance(_) => None,
        }
    }
}

/// Makes sure that the administrator's server, whose session `session` is, is the one that previews are made on: what is
/// looked at here would else be mended there.
async fn same_server(session: &Client, admin: &ParsedUrl, external: &ExternalServer) -> Result<(), StepError> {
    let target = external_target(external);
    if at(&admin.target()) == at(&target) {
        return Ok(());
    }
    let other = |why: String| {
        let message = format!(
            "nothing was made: the administrator's URL leads to {}, and previews are made at {target} (PGHOST, PGPORT), {why}",
            admin.target()
        );
        Err(StepError::lasting("preview_bootstrap_other_server", message))
    };
    let there = match connect(&target, &admin.user, admin.password.as_ref(), &admin.db, LOGIN).await {
        Ok(there) => there,
        Err(error) => {
            return other(format!("where the administrator cannot log in, to see whether they are one: {error}"));
        }
    };
    // Two servers do not start within the same microsecond.
    let sql = "SELECT extract(epoch FROM pg_postmaster_start_time())::text";
    let began =
        (session.first_value("look at the server", sql).await, there.first_value("look at the server", sql).await);
    there.close().await;
    match (began.0.map_err(pg)?, began.1.map_err(pg)?) {
        (Some(Some(one)), Some(Some(two))) if one == two => Ok(()),
        _ => other("which is another server".to_owned()),
    }
}

/// Where a server is, however one speaks to it.
fn at(target: &Target) -> (String, u16) {
    match target {
        Target::Socket { dir, port } => (dir.display().to_string(), *port),
        Target::Tcp { host, port, .. } => (host.clone(), *port),
    }
}

async fn connect_admin(url: &ParsedUrl, db: &str) -> Result<Client, StepError> {
    let connected: Result<Client, PgError> = connect(&url.target(), &url.user, url.password.as_ref(), db, LOGIN).await;
    connected.map_err(pg)
}
