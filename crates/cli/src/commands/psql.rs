//! `pgdb psql NAME [-- ARGS]`.

use super::Context;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::instances::StatusItem;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Open psql in a database.
#[derive(Debug, Args)]
#[command(after_help = "Everything after -- goes to psql:\n  pgdb psql mydb -- -c 'select 1'")]
pub(crate) struct Psql {
    /// Its name.
    name: String,
    /// Arguments for psql.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Psql {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = cx.reachable(&self.name).await?;
        let error = psql(&Connection::of(&item))?.args(&self.args).exec();
        Err(error).context("could not run psql")
    }
}

/// Where psql is to log in.
pub(super) struct Connection<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) db: &'a str,
    pub(super) password: &'a str,
    pub(super) tls: bool,
}

impl<'a> Connection<'a> {
    /// Into an instance.
    pub(super) fn of(item: &'a StatusItem) -> Self {
        Self {
            host: &item.host,
            port: item.host_port,
            user: &item.user,
            db: &item.db,
            password: &item.password,
            tls: item.tls,
        }
    }
}

/// psql, told of the connection through its environment: an argument list anybody can read.
pub(super) fn psql(to: &Connection<'_>) -> anyhow::Result<Command> {
    let mut command = Command::new(find()?);
    // PGSERVICE, PGHOSTADDR and others of the caller's would lead to another database.
    let harmless = ["PGAPPNAME", "PGCLIENTENCODING", "PGDATESTYLE", "PGTZ"];
    for (name, _) in std::env::vars_os() {
        let libpq = name.as_encoded_bytes().starts_with(b"PG") && !name.as_encoded_bytes().starts_with(b"PGDB_");
        if libpq && !harmless.iter().any(|harmless| name == *harmless) {
            command.env_remove(&name);
        }
    }
    command
        .env("PGHOST", to.host)
        .env("PGPORT", to.port.to_string())
        .env("PGUSER", to.user)
        .env("PGDATABASE", to.db)
        .env("PGPASSWORD", to.password)
        .env("PGSSLMODE", if to.tls { "require" } else { "disable" });
    Ok(command)
}

/// The newest psql of the system's packages, else the one on the PATH. (Debian's on the PATH is a wrapper that takes
/// longer to start than psql itself.)
pub(super) fn find() -> anyhow::Result<PathBuf> {
    let mut packaged: Vec<(u16, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin/psql"))))
        .filter(|(_, psql)| psql.is_file())
        .collect();
    packaged.sort();
    if let Some((_, psql)) = packaged.pop() {
        return Ok(psql);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("psql")).find(|psql| psql.is_file());
    on_path.context(
        "there is no psql here; install PostgreSQL's client programs, or connect with `pgdb url NAME --reveal`",
    )
}
