//! `pgdb preview …`: a database for each pull request.

mod bootstrap;
mod connect;
mod delete;
mod ensure;
mod extend;
mod gc;
mod list;
mod protect;
mod reset;
mod show;

use super::Context;
use crate::client::segment;
use crate::error::Usage;
use clap::{Args, Subcommand};
use pgdb_api::previews::Preview as Item;
use pgdb_core::duration::parse_seconds;
use pgdb_core::preview::{InvalidPrNumber, PrNumber};

/// A database for each pull request.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Preview {
    /// Make or mend what previews need on the server that the daemon was told of.
    Bootstrap(bootstrap::Bootstrap),
    /// See to it that a pull request has its database.
    Ensure(ensure::Ensure),
    /// Remove a pull request's database and its role.
    Delete(delete::Delete),
    /// Every preview.
    List(list::List),
    /// Everything about one preview.
    Show(show::Show),
    /// Throw away what a preview holds and make it anew from its template.
    Reset(reset::Reset),
    /// Set how long a preview lives from now on.
    Extend(extend::Extend),
    /// Refuse to delete or reset a preview.
    Protect(protect::Protect),
    /// Allow to delete and reset a preview again.
    Unprotect(protect::Protect),
    /// Remove what no record accounts for.
    Gc(gc::Gc),
    /// Open psql in a preview.
    Psql(connect::Psql),
    /// The connection URL of a preview.
    Url(connect::Url),
}

/// Which preview.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The pull request's number.
    number: String,
    /// The instance that the preview is on, where it is not the configured server.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
    /// The template that it is cloned from, where it is not the configured one.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
}

impl Preview {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::Bootstrap(command) => command.run(cx).await,
            Self::Ensure(command) => command.run(cx).await,
            Self::Delete(command) => command.run(cx).await,
            Self::List(command) => command.run(cx).await,
            Self::Show(command) => command.run(cx).await,
            Self::Reset(command) => command.run(cx).await,
            Self::Extend(command) => command.run(cx).await,
            Self::Protect(command) => command.run(cx, true).await,
            Self::Unprotect(command) => command.run(cx, false).await,
            Self::Gc(command) => command.run(cx).await,
            Self::Psql(command) => command.run(cx).await,
            Self::Url(command) => command.run(cx).await,
        }
    }
}

impl Which {
    /// The number, checked before anything is sent.
    fn number(&self) -> anyhow::Result<PrNumber> {
        number(&self.number)
    }

    /// The path of the preview, with what follows it.
    fn path(&self, rest: &str) -> anyhow::Result<String> {
        let template = self.template.as_deref().map_or_else(|| "-".to_owned(), segment);
        Ok(format!("/v1/previews/{template}/{}{rest}{}", self.number()?, query(self.on.as_deref())))
    }

    /// The query of the original's routes, whose path names no template.
    fn query(&self) -> String {
        query_of(self.on.as_deref(), self.template.as_deref())
    }

    /// The preview as it stands, with its password.
    async fn item(&self, cx: &Context<'_>) -> anyhow::Result<Item> {
        cx.client.get(&self.path("")?).await
    }
}

/// A pull request's number, as it was typed.
pub(crate) fn number(text: &str) -> anyhow::Result<PrNumber> {
    let wrong = |error: InvalidPrNumber| Usage(format!("'{text}' is no pull request's number: {error}"));
    text.parse().map_err(|error| wrong(error).into())
}

/// How long a preview is to live, checked before anything is sent.
fn ttl(text: &str) -> Result<String, String> {
    if text != "never" {
        parse_seconds(text).map_err(|error| format!("{error}, or never"))?;
    }
    Ok(text.to_owned())
}

/// The query that names an instance.
fn query(on: Option<&str>) -> String {
    query_of(on, None)
}

/// The query that names an instance and a template.
fn query_of(on: Option<&str>, template: Option<&str>) -> String {
    let named = [("on", on), ("template", template)];
    let parts: Vec<String> =
        named.iter().filter_map(|(what, name)| Some(format!("{what}={}", segment((*name)?)))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}
