//! What is said to PostgreSQL about previews, each with the locks that it needs.

use super::record::PasswordMark;
use super::server::{Server, ending};
use super::service::Place;
use super::steps::EntryNames;
use super::templates::TemplateRecord;
use super::world::PreviewWorld;
use crate::instances::world::pg;
use crate::operations::StepError;
use pgdb_pg::challenge::{Challenge, challenge};
use pgdb_pg::{connect, look, swap, thin};
use serde_json::Value;
use std::time::Duration;

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
}

const LOGIN: Duration = Duration::from_secs(10);

impl PreviewWorld {
    /// Looks at a template and gives its objects a holder.
    pub(super) async fn prepare_template(&self, server: &Server, template: &str) -> Result<TemplateRecord, StepError> {
        let session = self.session(server).await?;
        let seen = look::look(&session, template, "", "").await.map_err(pg)?;
        let missing = || StepError::lasting("template_missing", format!("there is no database '{template}'"));
        let seen = seen.template.ok_or_else(missing)?;
        swap::allow_connections(&session, template, true).await.map_err(pg)?;
        let client = self.connect(server, Some(template)).await?;
        thin::normalise(&client, &format!("{template}_owner")).await.map_err(pg)?;
        client.close().await;
        swap::allow_connections(&session, template, false).await.map_err(pg)?;
        session.release();
        Ok(TemplateRecord {
            target: server.key.clone(),
            name: template.to_owned(),
            oid: seen.oid,
            holder: format!("{template}_owner"),
            size_bytes: 0,
            strategy: String::new(),
            facts: Value::Null,
            generation: 1,
            highest: 0,
            prepared_at: self.clock.now(),
        })
    }

    /// Makes a role with a preview's password, or gives it to the role that is there. An entry of the pool has another
    /// name until it is handed out.
    pub(super) async fn make_role(&self, place: &Place, role: &str) -> Result<PasswordMark, StepError> {
        let password = self.password(&place.server, &place.db, &place.role).await?;
        let (verifier, mark) = password.verifier();
        let _catalog = place.server.catalog.lock().await;
        let session = self.session(&place.server).await?;
        thin::make_role(&session, role, &verifier).await.map_err(pg)?;
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

    /// Copies a preview's template.
    pub(super) async fn clone_template(&self, place: &Place, db: &str) -> Result<(), StepError> {
        let _permit = place.server.clones.acquire().await.map_err(ending)?;
        let session = self.session(&place.server).await?;
        thin::clone(&session, db, &place.template).await.map_err(pg)?;
        session.release();
        Ok(())
    }

    /// Gives what is in a clone to its role.
    pub(super) async fn hand_over(&self, place: &Place, db: &str, role: &str) -> Result<(), StepError> {
        let client = self.connect(&place.server, Some(db)).await?;
        let _catalog = place.server.catalog.lock().await;
        thin::hand_over(&client, db, role, &format!("{}_owner", place.template)).await.map_err(pg)?;
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
        let done = thin::hand_out(&session, from, (&place.db, &place.role), verifier).await;
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
            (true, false) => return Err(pg(error)),
        };
        session.release();
        Ok(outcome)
    }

    /// Sets an entry's verifier anew, ahead of its hand-out. False when its role is not there any more.
    pub(super) async fn set_verifier(&self, server: &Server, role: &str, verifier: &str) -> Result<bool, StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        let set = thin::set_verifier(&session, role, verifier).await;
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
    pub(super) async fn disconnect(&self, server: &Server, db: &str) -> Result<(), StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        if swap::owner(&session, db).await.map_err(pg)?.is_some() {
            swap::allow_connections(&session, db, false).await.map_err(pg)?;
            swap::end_sessions(&session, db).await.map_err(pg)?;
        }
        session.release();
        Ok(())
    }

    /// Drops a database.
    pub(super) async fn drop_database(&self, server: &Server, db: &str) -> Result<(), StepError> {
        let session = self.session(server).await?;
        swap::drop_database(&session, db).await.map_err(pg)?;
        session.release();
        Ok(())
    }

    /// Drops a role, or tells why it has to stay.
    pub(super) async fn drop_role(&self, server: &Server, role: &str) -> Result<Option<String>, StepError> {
        let _catalog = server.catalog.lock().await;
        let session = self.session(server).await?;
        thin::drop_role(&session, role).await.map_err(pg)?;
        session.release();
        Ok(None)
    }
}
