//! `pgdb deploy`.

use super::Context;
use crate::error::Usage;
use clap::Args;
use pgdb_api::instances::{DeployRequest, Deployment};
use pgdb_core::name::InstanceName;
use reqwest::Method;
use serde::Serialize;

/// Make a PostgreSQL server.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pgdb deploy --name mydb\n  pgdb deploy --name big --version 17 --size 50 --memory 4096\n  \
                        pgdb deploy --json | jq -r .DATABASE_URL"
)]
pub(crate) struct Deploy {
    /// 3 to 63 lower-case letters, digits and '-'; made up when left out.
    #[arg(long)]
    name: Option<String>,
    /// Disk it may take, in GB.
    #[arg(long, value_name = "GB")]
    size: Option<u32>,
    /// PostgreSQL major; when left out, the newest installed one, and 16 on docker.
    #[arg(long = "version", value_name = "MAJOR")]
    major: Option<u16>,
    /// What it runs on: process or docker; the daemon's own choice when left out.
    #[arg(long)]
    runtime: Option<String>,
    /// Refuse connections without TLS.
    #[arg(long)]
    tls: bool,
    /// Make the role a superuser, who can run programs as the user that PostgreSQL runs as.
    #[arg(long)]
    superuser: bool,
    /// Refuse to destroy it until it is unprotected.
    #[arg(long)]
    protected: bool,
    /// How many connections it takes.
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Memory it may count on, in MiB.
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// Data that an earlier destroy kept, to take into use again; also what the original daemon kept.
    #[arg(long, value_name = "VOLUME")]
    from_volume: Option<String>,
    /// Do not wait: print the operation.
    #[arg(long)]
    no_wait: bool,
}

/// What scripts read; the names are the original's.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    name: &'a str,
    host: &'a str,
    port: u16,
    db: &'a str,
    user: &'a str,
    password: &'a str,
    #[serde(rename = "DATABASE_URL")]
    database_url: &'a str,
}

impl Deploy {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let name = self.name.map(|name| InstanceName::parse(&name)).transpose();
        let name = name.map_err(|error| Usage(error.to_string()))?;
        let request = DeployRequest {
            name: name.map(String::from),
            size_gb: self.size,
            version: self.major,
            runtime: self.runtime,
            tls: self.tls,
            superuser: self.superuser,
            protected: self.protected,
            max_connections: self.max_connections,
            memory_mb: self.memory,
            from_volume: self.from_volume,
        };
        if self.no_wait {
            let operation: pgdb_api::operations::Operation = cx.client.post("/v1/deploy?wait=false", &request).await?;
            return cx.printer.either(&operation, |printer| printer.line(&operation.id));
        }
        let deployment: Deployment = cx
            .perform(Method::POST, "/v1/deploy", Some(&request), async |operation| {
                let name = operation.subject.strip_prefix("instance/").unwrap_or_default();
                let item = cx.item(name).await?;
                Ok(Deployment {
                    name: item.name,
                    host: item.host,
                    port: item.host_port,
                    db: item.db,
                    user: item.user,
                    password: item.password,
                    database_url: item.database_url,
                    created_at: item.created_at,
                    postgres_version: item.postgres_version,
                })
            })
            .await?;
        print(cx, &deployment)
    }
}

/// The original's lines, or its JSON.
pub(super) fn print(cx: &Context<'_>, deployment: &Deployment) -> anyhow::Result<()> {
    let printed = Printed {
        name: &deployment.name,
        host: &deployment.host,
        port: deployment.port,
        db: &deployment.db,
        user: &deployment.user,
        password: &deployment.password,
        database_url: &deployment.database_url,
    };
    cx.printer.either(&printed, |printer| {
        printer.line(format!("name: {}", printed.name));
        printer.line(format!("host: {}", printed.host));
        printer.line(format!("port: {}", printed.port));
        printer.line(format!("db: {}", printed.db));
        printer.line(format!("user: {}", printed.user));
        printer.line(format!("password: {}", printed.password));
        printer.line(format!("DATABASE_URL: {}", printed.database_url));
    })
}
