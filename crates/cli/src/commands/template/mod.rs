//! `pgdb template …`: the databases that previews are cloned from.

mod build;
mod create;
mod define;
mod delete;
mod list;
mod lock;
mod migrate;
mod refresh;
mod rollback;
mod show;

pub(super) use refresh::url;

use super::Context;
use crate::client::segment;
use clap::{Args, Subcommand};
use pgdb_api::templates::Template as Item;

/// The databases that previews are cloned from.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Template {
    /// Say how a template is made, and make it.
    Create(create::Create),
    /// Say how a template is made, and make nothing yet.
    Define(define::Define),
    /// Make a template anew from its source or from a dump.
    Refresh(refresh::Refresh),
    /// Make a template anew by running a folder of migrations and a seed script.
    Build(build::Build),
    /// Run migrations in a copy of a template, which takes its place.
    Migrate(migrate::Migrate),
    /// Let a template and the one before it change places.
    Rollback(rollback::Rollback),
    /// Every template.
    List(list::List),
    /// Everything about one template.
    Show(show::Show),
    /// Remove a template.
    Delete(delete::Delete),
    /// Refuse to refresh, build, roll back and delete a template.
    Lock(lock::Lock),
    /// Allow to refresh, build, roll back and delete a template again.
    Unlock(lock::Lock),
}

/// Which template.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The template's database.
    name: String,
    /// The instance that it is on, where it is not the configured server.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
}

impl Template {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(cx).await,
            Self::Define(command) => command.run(cx).await,
            Self::Delete(command) => command.run(cx).await,
            Self::Refresh(command) => command.run(cx).await,
            Self::Build(command) => command.run(cx).await,
            Self::Migrate(command) => command.run(cx).await,
            Self::Rollback(command) => command.run(cx).await,
            Self::List(command) => command.run(cx).await,
            Self::Show(command) => command.run(cx).await,
            Self::Lock(command) => command.run(cx, true).await,
            Self::Unlock(command) => command.run(cx, false).await,
        }
    }
}

impl Which {
    /// The path of the template, with what follows it.
    fn path(&self, rest: &str) -> String {
        format!("/v1/templates/{}{rest}{}", segment(&self.name), query(self.on.as_deref()))
    }

    /// The template as it stands.
    async fn item(&self, cx: &Context<'_>) -> anyhow::Result<Item> {
        cx.client.get(&self.path("")).await
    }
}

fn query(on: Option<&str>) -> String {
    on.map(|name| format!("?on={}", segment(name))).unwrap_or_default()
}

/// The one line that tells of a template that was made.
fn told(cx: &Context<'_>, item: &Item) -> anyhow::Result<()> {
    cx.printer.either(item, |printer| {
        let size = item.size_bytes.map(|bytes| format!(", {} MB", bytes / 1_000_000)).unwrap_or_default();
        let generation = item.generation.map(|number| format!(", generation {number}")).unwrap_or_default();
        let done = if item.unchanged { "unchanged, for it holds the same files already" } else { "ready" };
        printer.line(format!("{}: {done}{size}{generation}", item.name));
    })
}
