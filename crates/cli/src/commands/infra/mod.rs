//! `pgdb infra …`: a subcommand a file. Needs no daemon; `init`, `list` and `destroy` speak to the provider, `bootstrap` to
//! a server.

mod bootstrap;
mod cloud;
mod destroy;
mod init;
mod list;

use crate::args::Global;
use crate::error::Usage;
use crate::printer::Printer;
use crate::settings::config_dir;
use clap::Subcommand;
use pgdb_core::infra::name::InfraName;
use pgdb_infra::error::Error;
use std::path::PathBuf;

/// A server at Hetzner with pgdb on it.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[command(
    after_help = "The project's token comes from HCLOUD_TOKEN, HETZNER_TOKEN or --hcloud-token-file, never from an argument.\n\n\
                  Everything that is made carries the labels managed-by=pgdb and pgdb-name=NAME. All of these commands can be run \
                  again: they look first and do what is missing."
)]
pub(crate) enum Infra {
    /// Make a server, a volume and a firewall, and point this command at it.
    Init(Box<init::Init>),
    /// Install pgdb on a server over SSH.
    Bootstrap(Box<bootstrap::Bootstrap>),
    /// What pgdb made in the project.
    List(list::List),
    /// Remove a server and its firewall; its volume stays unless you say otherwise.
    Destroy(destroy::Destroy),
}

/// What every subcommand gets.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) printer: &'a Printer,
}

impl Infra {
    pub(crate) fn run(self, global: &Global, printer: &Printer) -> anyhow::Result<()> {
        let cx = Context { global, printer };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Init(command) => command.run(&cx).await,
                Self::Bootstrap(command) => command.run(&cx).await,
                Self::List(command) => command.run(&cx).await,
                Self::Destroy(command) => command.run(&cx).await,
            }
        })
    }
}

/// The folder with a folder for each server, and their host keys.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(config_dir()?.join("infra"))
}

fn parse_name(name: &str) -> anyhow::Result<InfraName> {
    InfraName::parse(name).map_err(|error| Usage(error.to_string()).into())
}

/// What was typed wrong ends with another status than what went wrong.
fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Usage(text) => Usage(text).into(),
        other => other.into(),
    }
}

/// Ends when somebody presses Ctrl-C or the command is told to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        ended = tokio::signal::ctrl_c() => if ended.is_err() { std::future::pending().await },
        _ = terminate.recv() => {}
    }
}
