//! What is said to PostgreSQL about previews, each with the locks that it needs.

use super::record::PasswordMark;
use super::server::{Server, ending};
use super::service::Place;
use super::steps::EntryNames;
use super::templates::{self, TemplateRecord};
use super::world::PreviewWorld;
use crate::instances::world::pg;
use crate::operations::StepError;
use pgdb_core::copying::{Copied, Strategy, Timings};
use pgdb_pg::challenge::{Challenge, challenge};
use pgdb_pg::copying;
use pgdb_pg::error::PgError;
use pgdb_pg::handover::{self, Strangers};
use pgdb_pg::{Client, connect, inventory, look, swap};
use std::time::Duration;
use tokio::time::Instant;

/// How long sessions that the operator may not end are waited for.
const SUPERUSERS_END: Duration = Duration::from_secs(5);

/// Ends the sessions of a database. Those of a superuser the operator may not end: they are waited for, and named.
async fn end_sessions(session: &Client, db: &str) -> Result<(), StepError> {
    let begin = Instant::now();
    let error = loop {
        match swap::end_sessions(session, db).await {
            Ok(()) => return Ok(()),
            Err(error) if error.sqlstate() == Some("42501") && begin.elapsed() < SUPERUSERS_END => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => break error,
        }
    };
    if !matches!(error, PgError::SessionsRemain { .. }) && error.sqlstate() != Some("42501") {
        return Err(pg(error));
    }
    let pids = inventory::sessions(session, db).await.map_err(pg)?.join(", ");
    let message = format!(
        "sessions in the database {db} do not end, for they are a superuser's: pid {pids}; end them yourself, and what \
         was begun goes on"
    );
    Err(StepError::lasting("sessions_remain", message))
}

/// What came of a hand-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandedOut {
    /// It was done.
    Now,
    /// It had been done before.
    Before,
    /// There is no such entry.
    Gone,
    /// There is a database of the preview's name beside the entry.
    InTheWay,
    /// There is no such database, and a role of the preview's name.
    RoleInTheWay,
}

const LOGIN: Duration = Duration::from_secs(10);

impl PreviewWorld {
    /// Looks at a template and gives its objects a holder.
    pub(super) async fn prepare_template(&self, server: &Server, template: &str) -> Result<TemplateRecord, StepError> {
        self.make_own_roles(server).await?;
        if server.instance.is_some() && template == self.config.settings.template() {
            let session = self.session(server).await?;
            self.make_own_template(&session, template).await?;
            session.release();
        }
        self.prepare_database(server, template, template).await
    }

    /// Gives the objects of a database, which is a template or becomes one, to the template's holder, and closes it.
    pub async fn prepare_database(
        &self,
        server: &Server,
        db: &str,
        template: &str,
    ) -> Result<TemplateRecord, StepError> {
        let open = async |session: &Client| {
            let seen = look::look(session, db, "", "").await.map_err(pg)?;
            let missing = || StepError::lasting("template_missing", format!("there is no database '{db}'"));
            let seen = seen.template.ok_or_else(missing)?;
            swap::allow_connections(session, db, true).await.map_err(pg)?;
            Ok(seen)
        };
        let seen = self.alone(server, open).await?;
        let holder = format!("{template}_owner");
        let given = self.give_to_holder(server, db, &holder).await;
        // Closed again whatever comes of it: an open template cannot be copied while somebody is in it.
        self.alone(server, async |session: &Client| swap::close_template(session, db).await.map_err(pg)).await?;
        given?;
        let session = self.session(server).await?;
        end_sessions(&session, db).await?;
        let size_bytes = swap::database_size(&session, db).await.map_err(pg)?.unwrap_or(0);
        let strategy = copying::guess(&session, size_bytes).await.map_err(pg)?;
        session.release();
        Ok(TemplateRecord {
            target: server.key.clone(),
            name: template.to_owned(),
            oid: seen.oid,
            holder,
            size_bytes,
            strategy: strategy.as_str().to_owned(),
            timings: Timings::default(),
            generation: 1,
            highest: 0,
            prepared_at: self.clock.now(),
        })
    }

    /// Makes a quick change to shared catalogs while nobody else does. Not for what takes its time, such as a drop.
    pub async fn alone<T>(
        &self,
        server: &Server,
        change: impl AsyncFnOnce(&Client) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        let done = change(&session).await?;
        session.release();
        Ok(done)
    }

    async fn give_to_holder(&self, server: &Server, template: &str, holder: &str) -> Result<(), StepError> {
        let client = self.connect(server, Some(template)).await?;
        let catalog = server.catalog.lock().await;
        let given = handover::give_to_holder(&client, holder).await.map_err(pg)?;
        drop(catalog);
        let owners = handover::extension_owners(&client, holder).await.map_err(pg)?;
        if given.is_ok() && !owners.is_empty() {
            // It touches every database of theirs, also those of clones that are being handed over.
            let _no_copy = server.clones.acquire_many(self.config.clones).await.map_err(ending)?;
            let _catalog = server.catalog.lock().await;
            handover::give_extensions(&client, holder, &owners).await.map_err(pg)?;
        }
        client.close().await;
        let Err(Strangers(strangers)) = given else { return Ok(()) };
        let mut listed: Vec<String> =
            strangers.iter().take(10).map(|one| format!("{} {} of {}", one.keyword, one.name, one.owner)).collect();
        if strangers.len() > listed.len() {
            listed.push(format!("and {} more", strangers.len() - listed.len()));
        }
        let message = format!(
            "in the template {template} there is what the operator can neither give away nor grant: {}; as a superuser \
             run there, for each of their owners: REASSIGN OWNED BY owner TO {holder}",
            listed.join(", ")
        );
        Err(StepError::lasting("template_not_ours", message))
    }

    /// On an instance of ours there is nobody else who would make the roles.
    pub async fn make_own_roles(&self, server: &Server) -> Result<(), StepError> {
        if server.instance.is_none() {
            return Ok(());
        }
        let settings = &self.config.settings;
        let make = async |session: &Client| {
            handover::ensure_group(session, settings.owner()).await.map_err(pg)?;
            handover::ensure_dev(session, settings.dev_role()).await.map_err(pg)
        };
        self.alone(server, make).await
    }

    /// Nor the configured template; a name that was just typed is nobody's.
    async fn make_own_template(&self, session: &Client, template: &str) -> Result<(), StepError> {
        let settings = &self.config.settings;
        if template == settings.template() && swap::owner(session, template).await.map_err(pg)?.is_none() {
            swap::create_database(session, template, settings.owner()).await.map_err(pg)?;
            tracing::info!(template, "made an empty template; `pgdb template create` or `build` fills it");
        }
        Ok(())
    }

    /// Makes a role with a preview's password, or gives it to the role that is there. An entry of the pool has another
    /// name until it is handed out.
    pub(super) async fn make_role(&self, place: &Place, role: &str) -> Result<PasswordMark, StepError> {
        let password = self.password(&place.server, &place.db, &place.role).await?;
        let (verifier, mark) = password.verifier();
        let _catalog = place.server.catalog.lock().await;
        let session = self.session(&place.server).await?;
        handover::ensure_login(&session, role, &verifier).await.map_err(pg)?;
        session.release();
        Ok(mark)
    }

    /// Makes a preview's role if there is none, and sets its password if the right one does not work.
    pub(super) async fn mend_role(&self, place: &Place) -> Result<PasswordMark, StepError> {
        let password = self.password(&place.server, &place.db, &place.role).await?;
        let target = self.client_target(&place.server).await?;
        // With trust anybody gets in, whatever the password.
        let before = challenge(&target, &place.role, &place.db, LOGIN).await.map_err(pg)?;
        if let Challenge::Salt(salt) = before
            && connect(&target, &place.role, Some(&password.password), &place.db, LOGIN).await.is_ok()
        {
            return Ok(PasswordMark { fingerprint: Some(password.fingerprint), salt: Some(salt) });
        }
        self.make_role(place, &place.role).await
    }

    /// Copies a preview's template in the quickest way that is known. Tells what a copy took, if one was made.
    pub(super) async fn clone_template(&self, place: &Place, db: &str) -> Result<Option<Copied>, StepError> {
        let known = self.known_template(place).await?;
        let strategy = Strategy::parse(&known.map(|template| template.strategy).unwrap_or_default());
        self.copy_by(place, db, strategy).await
    }

    /// The same where nobody waits: in a way that was not tried yet, if there is one.
    pub(super) async fn clone_and_learn(&self, place: &Place, db: &str) -> Result<Option<Copied>, StepError> {
        let Some(known) = self.known_template(place).await? else { return self.clone_template(place, db).await };
        let session = self.session(&place.server).await?;
        let major = session.major();
        session.release();
        let Some(strategy) = known.timings.untried(known.size_bytes, major) else {
            return self.clone_template(place, db).await;
        };
        match self.copy_by(place, db, strategy).await {
            Err(error) if !error.passing && strategy == Strategy::Clone => {
                tracing::info!(template = place.template, ?error, "files cannot share blocks here; they are copied");
                self.copy_by(place, db, Strategy::FileCopy).await?;
                Ok(Some(Copied { strategy, took_ms: None }))
            }
            done => done,
        }
    }

    async fn copy_by(&self, place: &Place, db: &str, strategy: Strategy) -> Result<Option<Copied>, StepError> {
        let _permit = place.server.clones.acquire().await.map_err(ending)?;
        let session = self.session(&place.server).await?;
        let owner = self.config.settings.owner();
        let begin = Instant::now();
        let made = copying::copy(&session, db, &place.template, owner, strategy).await.map_err(pg)?;
        let took_ms = begin.elapsed().as_secs_f64() * 1000.0;
        session.release();
        Ok(made.then_some(Copied { strategy, took_ms: Some(took_ms) }))
    }

    async fn known_template(&self, place: &Place) -> Result<Option<TemplateRecord>, StepError> {
        let (target, name) = (place.server.key.clone(), place.template.clone());
        Ok(self.store.read(move |connection| templates::find(connection, &target, &name)).await?)
    }

    /// Gives what is in a clone to its role.
    pub(super) async fn hand_over(&self, place: &Place, db: &str, role: &str) -> Result<(), StepError> {
        // As much work as the copy. What it changes of the shared catalogs is this clone's alone, so others may do the same.
        let _permit = place.server.clones.acquire().await.map_err(ending)?;
        let client = self.connect(&place.server, Some(db)).await?;
        let holder = format!("{}_owner", place.template);
        let (template, dev) = (place.template.as_str(), self.config.settings.dev_role());
        let clone = handover::Clone { db, role, holder: &holder, template, dev };
        handover::hand_over(&client, &clone).await.map_err(pg)?;
        client.close().await;
        Ok(())
    }

    /// Gives an entry of the pool the names of a preview, and its role a verifier if it has another's.
    pub(super) async fn hand_out(
        &self,
        place: &Place,
        entry: &EntryNames,
        verifier: Option<&str>,
    ) -> Result<HandedOut, StepError> {
        let _catalog = place.server.catalog.lock().await;
        let session = self.session(&place.server).await?;
        let from = (entry.db.as_str(), entry.role.as_str());
        let done = handover::hand_out(&session, from, (&place.db, &place.role), verifier).await;
        let Err(error) = done else {
            session.release();
            return Ok(HandedOut::Now);
        };
        // Names that are not there, or there already: an earlier try has done it, or somebody else has been here.
        if !matches!(error.sqlstate(), Some("3D000" | "42704" | "42P04" | "42710")) {
            return Err(pg(error));
        }
        let there = async |db: &str| swap::database_exists(&session, db).await.map_err(pg);
        let outcome = match (there(&entry.db).await?, there(&place.db).await?) {
            (false, true) => HandedOut::Before,
            (false, false) => HandedOut::Gone,
            (true, true) => HandedOut::InTheWay,
            (true, false) if error.sqlstate() == Some("42710") => HandedOut::RoleInTheWay,
            (true, false) => return Err(pg(error)),
        };
        session.release();
        Ok(outcome)
    }

    /// Sets an entry's verifier anew, ahead of its hand-out. False when its role is not there any more.
    pub(super) async fn set_verifier(&self, server: &Server, role: &str, verifier: &str) -> Result<bool, StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        let set = handover::set_verifier(&session, role, verifier).await;
        session.release();
        match set {
            Ok(()) => Ok(true),
            Err(error) if error.sqlstate() == Some("42704") => Ok(false),
            Err(error) => Err(pg(error)),
        }
    }

    /// Whether there is a database of this name.
    pub(super) async fn database_there(&self, server: &Server, db: &str) -> Result<bool, StepError> {
        let session = self.session(server).await?;
        let there = swap::owner(&session, db).await.map_err(pg)?.is_some();
        session.release();
        Ok(there)
    }

    /// Lets nobody into a database any more and ends its sessions.
    pub async fn disconnect(&self, server: &Server, db: &str) -> Result<(), StepError> {
        let catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        // The rest of a half-done drop has no sessions, and cannot be altered.
        if swap::database_exists(&session, db).await.map_err(pg)? {
            swap::allow_connections(&session, db, false).await.map_err(pg)?;
            drop(catalog);
            end_sessions(&session, db).await?;
        }
        session.release();
        Ok(())
    }

    /// Drops a database. Not under the lock of the catalogs: a drop waits for a checkpoint, and nobody has to wait for that.
    pub async fn drop_database(&self, server: &Server, db: &str) -> Result<(), StepError> {
        let session = self.session(server).await?;
        swap::drop_database(&session, db).await.map_err(pg)?;
        session.release();
        Ok(())
    }

    /// Drops a role, or tells why it has to stay.
    pub async fn drop_role(&self, server: &Server, role: &str) -> Result<Option<String>, StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        let reason = handover::drop_role(&session, role).await.map_err(pg)?;
        session.release();
        Ok(reason)
    }
}
