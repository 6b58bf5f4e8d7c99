//! What no record accounts for, and records that nothing accounts for.
//!
//! Only names that are exactly ours, prefix and number or prefix and the form of a pool entry, are ever touched.

use super::entries;
use super::reconcile::Keeper;
use super::record::{self, PreviewState};
use super::server::Server;
use super::steps::{DELETE, DeleteInput, EntryInput, POOL_DROP, role_outcome};
use crate::config::OrphanPolicy;
use crate::instances::world::pg;
use crate::operations::{NewOperation, step_problem};
use crate::problem::Problem;
use jiff::Timestamp;
use pgdb_api::previews::Orphan;
use pgdb_core::preview::{Family, Member, Names, PrNumber};
use pgdb_pg::inventory::{self, FoundDatabase};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is done about orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// They are listed.
    List,
    /// They are listed with what [`Self::Apply`] would do.
    Plan(OrphanPolicy),
    /// It is done.
    Apply(OrphanPolicy),
}

/// What has a name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    template: String,
    member: Member,
    names: Names,
}

/// What a server holds under the names of one template's previews.
struct Held {
    template: String,
    family: Family,
    databases: Vec<FoundDatabase>,
    roles: Vec<String>,
}

/// What was known of an orphan when it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// No record.
    Nothing,
    /// A record that was last asked for at this time.
    Since(Timestamp),
}

impl Keeper {
    /// Finds what is left over on a server, and treats it.
    pub async fn orphans(&self, server: &Arc<Server>, treatment: Treatment) -> Result<Vec<Orphan>, Problem> {
        let settings = &self.world.config.settings;
        let templates = self.world.templates_on(&server.key).await?;
        let session = self.world.session(server).await.map_err(step_problem)?;
        let failed = |error| step_problem(pg(error));
        let mut held = Vec::new();
        for template in templates {
            let family = settings.family(&template);
            let databases = inventory::databases(&session, family.prefix()).await.map_err(failed)?;
            let roles = inventory::roles(&session, family.app_prefix()).await.map_err(failed)?;
            held.push(Held { template, family, databases, roles });
        }
        let strays = match &server.instance {
            Some(_) => inventory::stray_directories(&session).await.map_err(failed)?,
            None => Vec::new(),
        };
        session.release();
        // What we know of is read after what is there: whatever is there was written down before it was made.
        let busy: BTreeSet<String> = self.engine.unfinished_inputs().await?.iter().flat_map(texts).collect();
        let key = server.key.clone();
        let (previews, entries) =
            self.world.store.read(|connection| Ok((record::all(connection)?, entries::all(connection)?))).await?;
        let previews: Vec<_> = previews.into_iter().filter(|preview| preview.target == key).collect();
        let known: BTreeSet<String> = previews
            .iter()
            .flat_map(|preview| [preview.db.clone(), preview.role.clone()])
            .chain(entries.into_iter().filter(|entry| entry.target == key).flat_map(|entry| [entry.db, entry.role]))
            .collect();

        let mut found = Vec::new();
        let there: BTreeSet<&str> = held.iter().flat_map(|held| &held.databases).map(|db| db.name.as_str()).collect();
        for Held { template, family, databases, roles } in &held {
            for database in databases {
                let name = &database.name;
                if known.contains(name) || busy.contains(name) || settings.is_protected(name) {
                    continue;
                }
                let Some(member) = family.of_db(name) else { continue };
                let kind = if database.valid { "database" } else { "invalid_database" };
                let message = if database.valid {
                    "no record knows this database"
                } else {
                    "a drop of this database was cut short; it cannot be used any more"
                };
                let adoptable = database.valid && matches!(member, Member::Preview(_));
                let named = Named { template: template.clone(), names: family.names(&member), member };
                let seen = (kind, name.as_str(), message);
                found.push(self.treat(server, seen, &named, Known::Nothing, adoptable, treatment).await?);
            }
            for role in roles {
                let Some(member) = family.of_role(role) else { continue };
                let names = family.names(&member);
                // Of an orphaned database's role the database was said.
                if known.contains(role)
                    || busy.contains(role)
                    || busy.contains(&names.db)
                    || there.contains(names.db.as_str())
                {
                    continue;
                }
                let named = Named { template: template.clone(), member, names };
                let seen = ("role", role.as_str(), "no record knows this role, and its database is gone");
                found.push(self.treat(server, seen, &named, Known::Nothing, false, treatment).await?);
            }
        }
        for preview in &previews {
            if preview.state != PreviewState::Ready || there.contains(preview.db.as_str()) || busy.contains(&preview.db)
            {
                continue;
            }
            let Ok(number) = PrNumber::new(preview.number) else { continue };
            let message = "the database of this preview is gone; the next ensure makes it anew";
            let names = Names { db: preview.db.clone(), role: preview.role.clone() };
            let named = Named { template: preview.template.clone(), member: Member::Preview(number), names };
            let seen = Known::Since(preview.used_at);
            found.push(self.treat(server, ("record", &preview.db, message), &named, seen, false, treatment).await?);
        }
        let stray = |name| Orphan {
            kind: "directory".to_owned(),
            name: format!("base/{name}"),
            message: "a copy was cut short by a crash of the server; nothing uses this folder".to_owned(),
            action: "reported".to_owned(),
        };
        found.extend(strays.into_iter().map(stray));
        Ok(found)
    }

    async fn treat(
        &self,
        server: &Arc<Server>,
        (kind, name, message): (&str, &str, &str),
        named: &Named,
        seen: Known,
        adoptable: bool,
        treatment: Treatment,
    ) -> Result<Orphan, Problem> {
        let (policy, apply) = match treatment {
            Treatment::List => (OrphanPolicy::Report, false),
            Treatment::Plan(policy) => (policy, false),
            Treatment::Apply(policy) => (policy, true),
        };
        let action = match policy {
            OrphanPolicy::Report => "reported",
            OrphanPolicy::Adopt if adoptable => "adopted",
            // What cannot be taken over is of no use to anybody.
            OrphanPolicy::Adopt | OrphanPolicy::Remove => "removed",
        };
        let orphan = |action: &str, message: &str| Orphan {
            kind: kind.to_owned(),
            name: name.to_owned(),
            message: message.to_owned(),
            action: action.to_owned(),
        };
        if apply {
            tracing::info!(orphan = name, kind, action, "{message}");
            match (action, &named.member) {
                ("adopted", Member::Preview(number)) => self.adopt(server, &named.template, *number).await?,
                ("removed", _) => {
                    if let Some(reason) = self.remove(server, named, seen).await? {
                        return Ok(orphan("kept", &reason));
                    }
                }
                _ => {}
            }
        }
        Ok(orphan(action, message))
    }

    async fn adopt(&self, server: &Arc<Server>, template: &str, number: PrNumber) -> Result<(), Problem> {
        let place = self.world.place(Arc::clone(server), Some(template), number)?;
        self.service.ensure(&place, &super::checks::Wanted::default(), true).await.map(drop)
    }

    /// Returns why its role has to stay, if it has to.
    async fn remove(&self, server: &Arc<Server>, named: &Named, seen: Known) -> Result<Option<String>, Problem> {
        let Names { db, role } = named.names.clone();
        let target = server.key.clone();
        let (kind, subject, input) = match &named.member {
            Member::Preview(_) => {
                let subject = record::subject(&target, &db);
                let input = DeleteInput { target, db, role, had_database: true, had_role: true };
                (DELETE, subject, serde_json::to_value(input))
            }
            Member::Entry(_) => {
                let subject = format!("pool/{target}/{db}");
                let input = EntryInput { target, entry: db, role, template: named.template.clone(), number: 1 };
                (POOL_DROP, subject, serde_json::to_value(input))
            }
        };
        let input = input.map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind, subject, input };
        let (target, db) = (server.key.clone(), named.names.db.clone());
        let prepare = move |connection: &Connection| {
            let preview = record::by_db(connection, &target, &db)?.map(|preview| preview.used_at);
            let entry = entries::find(connection, &target, &db)?;
            let unchanged = match seen {
                Known::Nothing => preview.is_none() && entry.is_none(),
                Known::Since(used_at) => preview == Some(used_at),
            };
            if unchanged { Ok(()) } else { Err(Problem::busy("preview_busy", "it has been taken into use meanwhile")) }
        };
        let started = match self.engine.start(new, prepare).await {
            // Somebody is at it.
            Err(problem) if matches!(problem.code, "operation_conflict" | "preview_busy") => return Ok(None),
            started => started?,
        };
        let operation = self.engine.finish(&started.id).await?;
        Ok(role_outcome(&operation).1)
    }
}

/// Every text in an operation's input.
fn texts(input: &Value) -> Vec<String> {
    match input {
        Value::String(text) => vec![text.clone()],
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
