//! What can be typed: the global flags and the list of commands.

use crate::commands;
use clap::{Arg, Args, Parser, Subcommand};

/// PostgreSQL in every form a team needs.
#[derive(Debug, Parser)]
#[command(name = "pgdb", version, about, disable_help_subcommand = true)]
#[command(
    after_help = "Start with:\n  pgdb serve            the daemon, in this terminal\n  pgdb deploy           a PostgreSQL server\n  \
                        pgdb psql NAME        a session in it\n  pgdb preview ensure 1 a database for a pull request\n  pgdb doctor           what is wrong, and how to mend it\n\n\
                        Exit status: 0 done, 1 failed, 2 wrong use."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The help names a flag's variable without what it holds, which is nothing most of the time and may be a secret.
pub(crate) fn by_name_alone(arg: Arg) -> Arg {
    arg.hide_env_values(true)
}

/// Where the help of a command lists them: behind its own flags.
const GLOBAL: &str = "Global options";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Which server: an alias from the configuration, or a URL.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ALIAS")]
    pub(crate) server: Option<String>,
    /// One JSON document on standard output, and errors as JSON too.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Seconds to wait for the daemon's answer; 0 waits for ever. What was asked goes on all the same.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) wait_timeout: u64,
    /// Ask nothing.
    #[arg(long, short = 'y', global = true, help_heading = GLOBAL)]
    pub(crate) yes: bool,
    /// No warnings and no progress on standard error.
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// No colours (also: the environment variable NO_COLOR).
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) no_color: bool,
}

/// The commands, each in a file of its name. What a command takes is put together once it is asked for (`defer`): all of it
/// takes as long as all else until `main` is at work.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Run the daemon in this terminal.
    Serve(Box<commands::serve::Serve>),
    /// End the daemon and its PostgreSQL servers; they start again with it.
    Down(commands::down::Down),
    /// Make a PostgreSQL server.
    Deploy(commands::deploy::Deploy),
    /// Everything about every database.
    Status(commands::status::Status),
    /// Names, states and ports.
    List(commands::list::List),
    /// Everything about one database.
    Show(commands::show::Show),
    /// Remove a database and its data.
    Destroy(commands::destroy::Destroy),
    /// Start a database that was stopped.
    Start(commands::power::Start),
    /// Stop a database; it stays stopped until it is started.
    Stop(commands::power::Stop),
    /// Stop a database, write its configuration anew, and start it.
    Restart(commands::power::Restart),
    /// Refuse to destroy a database.
    Protect(commands::protect::Protect),
    /// Allow to destroy a database again.
    Unprotect(commands::protect::Protect),
    /// Open psql in a database.
    Psql(commands::psql::Psql),
    /// The connection URL of a database.
    Url(commands::url::Url),
    /// The log of a database's server.
    Logs(commands::logs::Logs),
    /// Give a database's role a new password.
    RotatePassword(commands::rotate_password::RotatePassword),
    /// Write a dump of a database.
    Dump(commands::dump::Dump),
    /// Replace a database's content by a dump's.
    Restore(commands::restore::Restore),
    /// A database for each pull request.
    #[command(subcommand)]
    Preview(commands::preview::Preview),
    /// The databases that previews are cloned from.
    #[command(subcommand)]
    Template(commands::template::Template),
    /// Schemas brought up to date, from files.
    #[command(subcommand)]
    Migrate(commands::migrate::Migrate),
    /// Access tokens.
    #[command(subcommand)]
    Token(commands::token::Token),
    /// Who did what.
    Audit(commands::audit::Audit),
    /// Operations: what is being done, and what was.
    #[command(subcommand, visible_alias = "ops")]
    Operations(commands::operations::Operations),
    /// PostgreSQL installations.
    #[command(subcommand)]
    Engine(commands::engine::Engine),
    /// The registry format of the original daemon.
    #[command(subcommand)]
    Registry(commands::registry::Registry),
    /// The key that seals secrets.
    #[command(subcommand)]
    Key(commands::key::Key),
    /// The certificate of the daemon's own authority, for clients of databases with TLS.
    Ca(commands::ca::Ca),
    /// Which daemons this command speaks to.
    #[command(subcommand)]
    Config(commands::config::Config),
    /// A server at Hetzner with pgdb on it.
    #[command(subcommand)]
    Infra(Box<commands::infra::Infra>),
    /// What is wrong here, and how to mend it.
    Doctor(commands::doctor::Doctor),
    /// Whether the daemon serves requests.
    Health(commands::health::Health),
    /// The versions of this command and of the daemon.
    Version(commands::version::Version),
    /// Completions for a shell.
    Completions(commands::completions::Completions),
    /// Manual pages.
    Man(commands::man::Man),
}
