//! The commands, a file each.

pub(crate) mod audit;
pub(crate) mod ca;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod dump;
pub(crate) mod engine;
pub(crate) mod health;
pub(crate) mod infra;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod operations;
pub(crate) mod power;
pub(crate) mod preview;
pub(crate) mod protect;
pub(crate) mod psql;
pub(crate) mod registry;
pub(crate) mod restore;
pub(crate) mod rotate_password;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod url;
pub(crate) mod version;

use crate::args::{Cli, Command, Global};
use crate::client::{Answer, Client, segment};
use crate::error::Usage;
use crate::printer::Printer;
use crate::progress;
use crate::settings::Server;
use pgdb_api::instances::StatusItem;
use pgdb_core::name::InstanceName;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What commands that speak to a daemon share.
pub(crate) struct Context<'a> {
    pub(crate) client: Client,
    pub(crate) printer: &'a Printer,
    pub(crate) global: Global,
}

/// Runs what was typed.
pub(crate) fn run(cli: Cli, printer: &Printer) -> anyhow::Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Serve(command) => return command.run(),
        Command::Config(command) => return command.run(printer),
        Command::Completions(command) => return command.run(),
        Command::Man(command) => return command.run(),
        Command::Migrate(command) => return command.run(&global, printer),
        Command::Infra(command) => return command.run(&global, printer),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::resolve(&global)?;
        if server.token.is_some() && server.url.starts_with("http://") && !server.is_local() {
            printer.warn("the token goes over the network unencrypted; give the daemon a certificate and use https://");
        }
        let client = Client::new(server, global.wait_timeout)?;
        let cx = Context { client, printer, global };
        match cli.command {
            Command::Down(command) => command.run(&cx).await,
            Command::Deploy(command) => command.run(&cx).await,
            Command::Status(command) => command.run(&cx).await,
            Command::List(command) => command.run(&cx).await,
            Command::Show(command) => command.run(&cx).await,
            Command::Destroy(command) => command.run(&cx).await,
            Command::Start(command) => command.run(&cx).await,
            Command::Stop(command) => command.run(&cx).await,
            Command::Restart(command) => command.run(&cx).await,
            Command::Protect(command) => command.run(&cx, true).await,
            Command::Unprotect(command) => command.run(&cx, false).await,
            Command::Psql(command) => command.run(&cx).await,
            Command::Url(command) => command.run(&cx).await,
            Command::Logs(command) => command.run(&cx).await,
            Command::RotatePassword(command) => command.run(&cx).await,
            Command::Dump(command) => command.run(&cx).await,
            Command::Restore(command) => command.run(&cx).await,
            Command::Preview(command) => command.run(&cx).await,
            Command::Template(command) => command.run(&cx).await,
            Command::Token(command) => command.run(&cx).await,
            Command::Audit(command) => command.run(&cx).await,
            Command::Operations(command) => command.run(&cx).await,
            Command::Engine(command) => command.run(&cx).await,
            Command::Registry(command) => command.run(&cx).await,
            Command::Key(command) => command.run(&cx).await,
            Command::Ca(command) => command.run(&cx).await,
            Command::Doctor(command) => command.run(&cx).await,
            Command::Health(command) => command.run(&cx).await,
            Command::Version(command) => command.run(&cx).await,
            Command::Serve(_)
            | Command::Config(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Migrate(_)
            | Command::Infra(_) => Ok(()),
        }
    })
}

impl Context<'_> {
    /// The path of a database, its name checked before anything is sent.
    pub(crate) fn path(&self, name: &str, rest: &str) -> anyhow::Result<String> {
        let name = InstanceName::parse(name).map_err(|error| Usage(error.to_string()))?;
        Ok(format!("/v1/db/{}{rest}", segment(name.as_str())))
    }

    /// One database as it stands.
    pub(crate) async fn item(&self, name: &str) -> anyhow::Result<StatusItem> {
        self.client.get(&self.path(name, "")?).await
    }

    /// The same with its password, or why there is none.
    pub(crate) async fn revealed(&self, name: &str) -> anyhow::Result<StatusItem> {
        let item = self.item(name).await?;
        anyhow::ensure!(
            !item.password.is_empty(),
            "this token may not see passwords; it lacks the scope instances:reveal"
        );
        Ok(item)
    }

    /// The same where somebody is to log in: one that is stopped cannot be.
    pub(crate) async fn reachable(&self, name: &str) -> anyhow::Result<StatusItem> {
        let item = self.revealed(name).await?;
        runs(&item)?;
        Ok(item)
    }

    /// Starts an operation, shows its steps on a terminal, and gives its result, which `then` fetches if the daemon
    /// answered with the operation alone.
    pub(crate) async fn perform<T, F>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        then: F,
    ) -> anyhow::Result<T>
    where
        T: DeserializeOwned,
        F: AsyncFnOnce(&pgdb_api::operations::Operation) -> anyhow::Result<T>,
    {
        match self.client.start(method, path, body, self.printer.shows_progress()).await? {
            Answer::Done(result) => Ok(result),
            Answer::Accepted(operation) => {
                let ended = progress::follow(&self.client, self.printer, &operation.id).await?;
                then(&ended).await
            }
        }
    }

    /// Asks a person to type yes, unless `--yes` or nobody is there to ask.
    pub(crate) fn confirm(&self, question: &str) -> anyhow::Result<()> {
        if self.global.yes { Ok(()) } else { self.printer.confirm(question) }
    }

    /// Whether [`Self::confirm`] asks.
    pub(crate) fn asks(&self) -> bool {
        !self.global.yes && self.printer.can_ask()
    }
}

/// Refuses a database whose server is stopped.
pub(crate) fn runs(item: &StatusItem) -> anyhow::Result<()> {
    let name = &item.name;
    anyhow::ensure!(item.state != "stopped", "the instance '{name}' is stopped; start it: `pgdb start {name}`");
    Ok(())
}

/// No body.
pub(crate) const NOTHING: Option<&()> = None;
