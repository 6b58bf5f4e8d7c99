//! What no record accounts for, and records that nothing accounts for.
//!
//! Only names that are exactly ours, prefix and number or prefix and the form of a pool entry, are ever touched.

use super::entries;
use super::reconcile::Keeper;
use super::record::{self, PreviewState};
use super::server::Server;
use super::steps::{DELETE, DeleteInput, EntryInput, POOL_DROP};
use crate::config::OrphanPolicy;
use crate::instances::world::pg;
use crate::operations::{NewOperation, step_problem};
use crate::problem::Problem;
use jiff::Timestamp;
use pgdb_api::previews::Orphan;
use pgdb_core::preview::PrNumber;
use pgdb_pg::inventory;
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

/// What an orphan's name says that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Preview(PrNumber),
    Entry { db: String, role: String },
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
        let session = self.world.session(server).await.map_err(step_problem)?;
        let failed = |error| step_problem(pg(error));
        let databases = inventory::databases(&session, settings.prefix()).await.map_err(failed)?;
        let roles = inventory::roles(&session, settings.app_prefix()).await.map_err(failed)?;
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
        let there: BTreeSet<&str> = databases.iter().map(|database| database.name.as_str()).collect();
        for database in &databases {
            let name = &database.name;
            if known.contains(name) || busy.contains(name) || settings.is_protected(name) {
                continue;
            }
            let Some(shape) = self.shape(name, settings.prefix()) else { continue };
            let kind = if database.valid { "database" } else { "invalid_database" };
            let message = if database.valid {
                "no record knows this database"
            } else {
                "a drop of this database was cut short; it cannot be used any more"
            };
            let adoptable = database.valid && matches!(shape, Shape::Preview(_));
            found.push(self.treat(server, (kind, name, message), &shape, Known::Nothing, adoptable, treatment).await?);
        }
        for role in &roles {
            let Some(shape) = self.shape(role, settings.app_prefix()) else { continue };
            let db = self.names(&shape).0;
            // Of an orphaned database's role the database was said.
            if known.contains(role) || busy.contains(role) || busy.contains(&db) || there.contains(db.as_str()) {
                continue;
            }
            let message = "no record knows this role, and its database is gone";
            found.push(self.treat(server, ("role", role, message), &shape, Known::Nothing, false, treatment).await?);
        }
        for preview in &previews {
            if preview.state != PreviewState::Ready || there.contains(preview.db.as_str()) || busy.contains(&preview.db)
            {
                continue;
            }
            let Ok(number) = PrNumber::new(preview.number) else { continue };
            let message = "the database of this preview is gone; the next ensure makes it anew";
            let (shape, seen) = (Shape::Preview(number), Known::Since(preview.used_at));
            found.push(self.treat(server, ("record", &preview.db, message), &shape, seen, false, treatment).await?);
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
        shape: &Shape,
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
        if apply {
            tracing::info!(orphan = name, kind, action, "{message}");
            match (action, shape) {
                ("adopted", Shape::Preview(number)) => self.adopt(server, *number).await?,
                ("removed", shape) => self.remove(server, shape, seen).await?,
                _ => {}
            }
        }
        Ok(Orphan {
            kind: kind.to_owned(),
            name: name.to_owned(),
            message: message.to_owned(),
            action: action.to_owned(),
        })
    }

    async fn adopt(&self, server: &Arc<Server>, number: PrNumber) -> Result<(), Problem> {
        let place = self.world.place(Arc::clone(server), None, number)?;
        self.service.ensure(&place, &super::checks::Wanted::default(), true).await.map(drop)
    }

    async fn remove(&self, server: &Arc<Server>, shape: &Shape, seen: Known) -> Result<(), Problem> {
        let (db, role) = self.names(shape);
        let target = server.key.clone();
        let (kind, subject, input) = match shape {
            Shape::Preview(_) => {
                let subject = record::subject(&target, &db);
                let input = DeleteInput { target, db, role, had_database: true, had_role: true };
                (DELETE, subject, serde_json::to_value(input))
            }
            Shape::Entry { .. } => {
                let subject = format!("pool/{target}/{db}");
                let template = self.world.config.settings.template().to_owned();
                let input = EntryInput { target, entry: db, role, template, number: 1 };
                (POOL_DROP, subject, serde_json::to_value(input))
            }
        };
        let input = input.map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind, subject, input };
        let (target, db) = (server.key.clone(), self.names(shape).0);
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
            Err(problem) if matches!(problem.code, "operation_conflict" | "preview_busy") => return Ok(()),
            started => started?,
        };
        self.engine.finish(&started.id).await.map(drop)
    }

    fn names(&self, shape: &Shape) -> (String, String) {
        match shape {
            Shape::Entry { db, role } => (db.clone(), role.clone()),
            Shape::Preview(number) => {
                let names = self.world.config.settings.names(*number);
                names.map(|names| (names.db, names.role)).unwrap_or_default()
            }
        }
    }

    /// What a name is, when it is exactly one of ours.
    fn shape(&self, name: &str, prefix: &str) -> Option<Shape> {
        let rest = name.strip_prefix(prefix)?;
        if let Some(suffix) = rest.strip_prefix("pool_") {
            let ours = suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let names = self.world.config.settings.pool_names(suffix);
            return ours.then_some(Shape::Entry { db: names.db, role: names.role });
        }
        // `007` is nobody's.
        let number: PrNumber = rest.parse().ok()?;
        (number.to_string() == rest).then_some(Shape::Preview(number))
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
