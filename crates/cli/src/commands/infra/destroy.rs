//! `pgdb infra destroy`.

use super::cloud::Cloud;
use super::init::ALIAS;
use super::{Context, explain, folder, interrupted, parse_name};
use crate::settings::ConfigFile;
use clap::Args;
use pgdb_core::infra::removal::Belongings;
use pgdb_infra::destroy::{destroy, find};
use pgdb_infra::place::Place;
use serde::Serialize;

/// Remove a server and its firewall. Its volume stays, with the databases on it, unless you say otherwise.
#[derive(Debug, Args)]
#[command(
    after_help = "What belongs to the server is found by its labels, also what an `init` left that was killed. A volume that was kept is \
                        used again by `pgdb infra init` with the same name."
)]
pub(crate) struct Destroy {
    /// The server's name.
    name: String,
    /// Remove the volume too, and everything on it.
    #[arg(long)]
    delete_volume: bool,
    #[command(flatten)]
    cloud: Cloud,
}

#[derive(Serialize)]
struct Item {
    kind: &'static str,
    id: u64,
    name: String,
}

/// The result, and the keys of `--json`.
#[derive(Serialize)]
struct Done {
    ok: bool,
    removed: Vec<Item>,
    kept: Vec<Item>,
}

impl Destroy {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let name = parse_name(&self.name)?;
        let client = self.cloud.client()?;
        let found = find(&client, &name).await.map_err(explain)?;
        let kept_volumes = !self.delete_volume && !found.volumes.is_empty();
        let folder = folder()?;
        if found.servers.is_empty() && found.firewalls.is_empty() && (found.volumes.is_empty() || kept_volumes) {
            if found.is_empty() {
                // What an `init` remembers that was killed before it made anything.
                Place::take(&folder, &name).and_then(Place::forget).map_err(explain)?;
            }
            let hint = if kept_volumes { "; its volume is kept, --delete-volume removes it" } else { "" };
            anyhow::bail!("nothing of '{name}' is there to remove{hint}");
        }
        self.confirm(cx, &found)?;
        let report = |line: &str| cx.printer.note(line);
        let removed = tokio::select! {
            removed = destroy(&client, &name, &found, self.delete_volume, &folder, &report) => removed.map_err(explain)?,
            () = interrupted() => anyhow::bail!("interrupted; run the same command again to go on"),
        };
        forget_server(cx, &found)?;
        let kept = if self.delete_volume { Vec::new() } else { found.volumes };
        let done = Done {
            ok: true,
            removed: removed
                .into_iter()
                .map(|one| Item { kind: one.kind.word(), id: one.id, name: one.name })
                .collect(),
            kept: kept.into_iter().map(|one| Item { kind: "volume", id: one.id, name: one.name }).collect(),
        };
        cx.printer.either(&done, |printer| {
            for item in &done.removed {
                printer.line(format!("removed: {} {}", item.kind, item.name));
            }
            for item in &done.kept {
                printer.line(format!("kept: {} {} (id {}), which costs money", item.kind, item.name, item.id));
            }
        })
    }

    /// A volume goes only with a person's or a flag's word; without anybody to ask, `--yes` is needed.
    fn confirm(&self, cx: &Context<'_>, found: &Belongings) -> anyhow::Result<()> {
        if cx.global.yes {
            return Ok(());
        }
        anyhow::ensure!(cx.printer.can_ask(), "not done: nobody is there to confirm it; use --yes if you mean it");
        let address =
            found.servers.iter().find_map(|server| server.ip()).map(|ip| format!(" ({ip})")).unwrap_or_default();
        let what = if self.delete_volume { "with its volume and ALL ITS DATA" } else { "and keep its volume" };
        cx.printer.confirm(&format!("Remove the server '{}'{address} {what}?", self.name))
    }
}

/// A default server that is gone is not spoken to any more: its address will be somebody else's.
fn forget_server(cx: &Context<'_>, found: &Belongings) -> anyhow::Result<()> {
    let mut config = ConfigFile::load()?;
    let gone = |url: &str| {
        found.servers.iter().filter_map(|server| server.ip()).any(|ip| url.starts_with(&format!("http://{ip}:")))
    };
    if config.server(ALIAS).is_some_and(gone) {
        cx.printer.note(format!("server.{ALIAS} is no longer set"));
        config.forget_server(ALIAS);
        config.save()?;
    }
    Ok(())
}
