//! `pgdb list`.

use super::Context;
use clap::Args;
use pgdb_api::instances::StatusResponse;
use serde::Serialize;

/// Names, states and ports.
#[derive(Debug, Args)]
pub(crate) struct List {}

#[derive(Debug, Serialize)]
struct Short<'a> {
    name: &'a str,
    state: &'a str,
    port: u16,
}

impl List {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let status: StatusResponse = cx.client.get("/v1/status").await?;
        let items = status.items.iter();
        let short: Vec<Short<'_>> =
            items.map(|item| Short { name: &item.name, state: &item.state, port: item.host_port }).collect();
        cx.printer.either(&short, |printer| {
            let rows = short.iter().map(|one| vec![one.name.to_owned(), one.state.to_owned(), one.port.to_string()]);
            if !short.is_empty() {
                printer.table(&["NAME", "STATE", "PORT"], rows.collect());
            }
        })
    }
}
