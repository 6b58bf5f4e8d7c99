//! `pgdb engine list|install`.

use super::Context;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use pgdb_api::engines::{EngineInfo, EnginesResponse, InstallEngine};
use reqwest::Method;
use std::path::PathBuf;

/// PostgreSQL installations.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Engine {
    /// What there is.
    List,
    /// Install a major on the daemon's machine.
    Install(Install),
}

/// Install a major on the daemon's machine.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// 13 to 18.
    major: u16,
    /// An archive or folder on the daemon's machine; the system's packages when left out.
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
}

impl Engine {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::List => {
                let engines: EnginesResponse = cx.client.get("/v1/engines").await?;
                cx.printer.either(&engines, |printer| {
                    let rows = engines.items.iter().map(|engine| {
                        let default = if engine.default { "default" } else { "" };
                        vec![
                            engine.major.to_string(),
                            engine.version.clone(),
                            engine.bin_dir.clone(),
                            default.to_owned(),
                        ]
                    });
                    printer.table(&["MAJOR", "VERSION", "PROGRAMS", ""], rows.collect());
                })
            }
            Self::Install(install) => install.run(cx).await,
        }
    }
}

impl Install {
    async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let source = self.from.map(std::path::absolute).transpose().context("could not make the path absolute")?;
        let request = InstallEngine { source: source.map(|path| path.display().to_string()) };
        let path = format!("/v1/engines/{}/install", self.major);
        let engine: EngineInfo = cx
            .perform(Method::POST, &path, Some(&request), async |_| {
                let engines: EnginesResponse = cx.client.get("/v1/engines").await?;
                let found = engines.items.into_iter().find(|engine| engine.major == self.major);
                found.context("it was installed and is not found")
            })
            .await?;
        cx.printer
            .either(&engine, |printer| printer.line(format!("PostgreSQL {} in {}", engine.version, engine.bin_dir)))
    }
}
