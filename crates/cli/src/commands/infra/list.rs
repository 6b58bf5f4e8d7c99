//! `pgdb infra list`.

use super::cloud::Cloud;
use super::{Context, explain};
use clap::Args;
use pgdb_core::infra::cloud::{Server, Volume};
use pgdb_core::infra::labels::{self, Labels};
use serde::Serialize;
use std::collections::BTreeMap;

/// What pgdb made in the project: servers, and volumes that were kept.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    cloud: Cloud,
}

/// All that belongs to one name.
#[derive(Debug, Default, Serialize)]
struct Item {
    name: String,
    state: String,
    ip: Option<String>,
    server_type: Option<String>,
    location: Option<String>,
    server_id: Option<u64>,
    volume_id: Option<u64>,
    volume_gb: Option<u32>,
    firewall_id: Option<u64>,
}

impl List {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let found = self.cloud.client()?.belongings(&labels::selector_of_all()).await.map_err(explain)?;
        let mut items: BTreeMap<String, Item> = BTreeMap::new();
        for firewall in &found.firewalls {
            item(&mut items, &firewall.labels).firewall_id = Some(firewall.id);
        }
        for Volume { id, size, location, labels, .. } in &found.volumes {
            let item = item(&mut items, labels);
            (item.volume_id, item.volume_gb) = (Some(*id), Some(*size));
            item.location = Some(location.name.clone());
        }
        for server in &found.servers {
            add_server(item(&mut items, &server.labels), server);
        }
        let items: Vec<Item> = items.into_values().collect();
        cx.printer.either(&serde_json::json!({ "items": items }), |printer| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let rows = items.iter().map(|item| {
                let volume = item.volume_gb.map(|gb| format!("{gb} GB")).unwrap_or_default();
                let (ip, kind, place) = (text(&item.ip), text(&item.server_type), text(&item.location));
                vec![item.name.clone(), item.state.clone(), ip, kind, place, volume]
            });
            printer.table(&["NAME", "STATE", "IP", "TYPE", "LOCATION", "VOLUME"], rows.collect());
        })
    }
}

fn item<'a>(items: &'a mut BTreeMap<String, Item>, labels: &Labels) -> &'a mut Item {
    let name = labels.get(labels::NAME).cloned().unwrap_or_default();
    let new = || Item { name: name.clone(), state: "no server".to_owned(), ..Item::default() };
    items.entry(name.clone()).or_insert_with(new)
}

fn add_server(item: &mut Item, server: &Server) {
    item.state.clone_from(&server.status);
    item.ip = server.ip().map(str::to_owned);
    item.server_type = Some(server.server_type.name.clone());
    item.location = Some(server.location().to_owned());
    item.server_id = Some(server.id);
}
