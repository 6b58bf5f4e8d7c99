//! Removing a server and what belongs to it.

use crate::Report;
use crate::client::Client;
use crate::error::Error;
use crate::known_hosts::KnownHosts;
use crate::place::Place;
use pgdb_core::infra::labels;
use pgdb_core::infra::name::InfraName;
use pgdb_core::infra::plan::Impossible;
use pgdb_core::infra::removal::{Belongings, Kind, Removal, removal};
use std::path::Path;

/// What belongs to a server, by its labels: also what a run left that ended in the middle, on this machine or another.
pub async fn find(client: &Client, name: &InfraName) -> Result<Belongings, Error> {
    client.belongings(&labels::selector(name)).await
}

/// Removes what was found; volumes only if asked. Gives what is gone; at the first failure it ends, and can be run again.
pub async fn destroy(
    client: &Client,
    name: &InfraName,
    found: &Belongings,
    with_volumes: bool,
    all: &Path,
    report: Report<'_>,
) -> Result<Vec<Removal>, Error> {
    let place = Place::take(all, name)?;
    let todo = removal(found, with_volumes);
    if let Some(kept) = todo.iter().find(|removal| removal.protected) {
        return Err(Error::Usage(format!(
            "the {} '{}' is protected from being deleted; lift the protection in the console first. Nothing was removed",
            kept.kind.word(),
            kept.name
        )));
    }
    for removal in &todo {
        report(&format!("remove the {} '{}'", removal.kind.word(), removal.name));
        remove(client, removal).await?;
    }
    for ip in found.servers.iter().filter_map(|server| server.ip()) {
        KnownHosts::of(all).forget(ip)?;
    }
    place.forget()?;
    Ok(todo)
}

/// Deletes one thing and waits until it is gone. What still uses it may need a moment to let go.
pub(crate) async fn remove(client: &Client, removal: &Removal) -> Result<(), Error> {
    let doing = format!("remove the {} '{}'", removal.kind.word(), removal.name);
    let until = tokio::time::Instant::now() + client.settings.patience;
    loop {
        let used = match in_use(client, removal).await? {
            Some(why) => why,
            None => match client.delete(removal.kind, removal.id, &doing).await {
                Err(error) if error.code() == "resource_in_use" => error.to_string(),
                other => return other,
            },
        };
        if tokio::time::Instant::now() >= until {
            return Err(Error::Slow { what: used, seconds: client.settings.patience.as_secs() });
        }
        tokio::time::sleep(client.settings.poll).await;
    }
}

/// A volume cannot be deleted while it is attached. From a server that was removed it comes off by itself; at one that
/// is there somebody else needs it.
async fn in_use(client: &Client, removal: &Removal) -> Result<Option<String>, Error> {
    if removal.kind != Kind::Volume {
        return Ok(None);
    }
    let Some(server) = client.volume(removal.id).await?.and_then(|volume| volume.server) else { return Ok(None) };
    match client.server(server).await? {
        Some(_) => Err(Impossible::Attached { name: removal.name.clone(), server }.into()),
        None => Ok(Some(format!("the volume '{}' is still attached to the server that was removed", removal.name))),
    }
}
