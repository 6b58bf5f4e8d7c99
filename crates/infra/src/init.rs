//! Making a server with its firewall and its volume: look, plan, do the first step, look again.

use crate::Report;
use crate::api::NewServer;
use crate::client::Client;
use crate::destroy::remove;
use crate::error::Error;
use crate::known_hosts::KnownHosts;
use crate::place::{Journal, Place, State};
use crate::ssh::make_host_key;
use pgdb_core::infra::cloud::{Server, ServerType};
use pgdb_core::infra::host_key::HostKey;
use pgdb_core::infra::labels;
use pgdb_core::infra::plan::{Plan, Seen, Step, Wanted, plan};
use pgdb_core::infra::price::Estimate;
use pgdb_core::infra::removal::{Kind, Removal};
use pgdb_core::infra::user_data::user_data;
use pgdb_core::random;
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;

/// More steps than any plan has: what is done does not show.
const MOST_STEPS: usize = 24;
/// What the provider answers when somebody, perhaps an attempt of ours whose answer was lost, was there first.
const THERE_FIRST: [&str; 4] =
    ["uniqueness_error", "volume_already_attached", "server_already_attached", "firewall_already_applied"];

/// A server that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its ids.
    pub server_id: u64,
    /// The volume's.
    pub volume_id: u64,
    /// The firewall's.
    pub firewall_id: u64,
    /// Its public IPv4 address.
    pub ip: String,
    /// Its host key, if it was made with one.
    pub host_key: Option<HostKey>,
    /// Whether anything had to be done.
    pub changed: bool,
    /// The server was made now, or this machine saw it whole for the first time.
    pub new: bool,
    /// What is there and stays as it is, although something else was asked for.
    pub notes: Vec<String>,
}

/// What became of what was made before `init` failed.
#[derive(Debug, Default)]
pub struct Cleanup {
    /// Was removed again.
    pub removed: Vec<Removal>,
    /// Is still there, for it could not be removed.
    pub remains: Vec<Removal>,
    /// Was made by an earlier, interrupted command and there when this one began. It may be in use since, so it stays.
    pub older: Vec<Removal>,
    /// The provider could not be asked what there is.
    pub unknown: bool,
}

/// Why there is no server, and what is left.
#[derive(Debug)]
pub struct Failed {
    /// The reason.
    pub error: Error,
    /// What became of what was made.
    pub cleanup: Cleanup,
}

/// What `init` would do.
#[derive(Debug)]
pub struct Preview {
    /// The steps.
    pub plan: Plan,
    /// What that costs, if the price list says so.
    pub estimate: Option<Estimate>,
    /// The kind of server that would be made.
    pub server_type: ServerType,
}

/// Looks and plans, and changes nothing.
pub async fn preview(client: &Client, wanted: &Wanted) -> Result<Preview, Error> {
    let seen = client.look(&wanted.name).await?;
    let plan = plan(wanted, &seen)?;
    let server_type = check(client, wanted, &plan).await?;
    let estimate = Estimate::of(wanted, &plan.steps, &server_type, &client.pricing().await?);
    Ok(Preview { plan, estimate, server_type })
}

/// Makes what is missing and mends what differs. `all` is the folder in which each server has one.
pub async fn init(client: &Client, wanted: &Wanted, all: &Path, report: Report<'_>) -> Result<Made, Failed> {
    let untouched = |error| Failed { error, cleanup: Cleanup::default() };
    let place = Place::take(all, &wanted.name).map_err(untouched)?;
    let before = place.journal().map_err(untouched)?;
    let known = before.as_ref().is_some_and(|journal| journal.state == State::Ready);
    let before = before.filter(|_| !known);
    let resumed = before.is_some();
    let mut journal = before.unwrap_or_else(|| Journal {
        run: random::lower_alnum(client.entropy(), 12),
        endpoint: client.settings.endpoint.clone(),
        state: State::Making,
        ip: None,
    });
    // What was there when this command made its first change.
    let mut first = None;
    match make(client, wanted, &place, &journal, &mut first, report).await {
        Ok(mut made) => {
            made.new |= !known;
            journal.state = State::Ready;
            journal.ip = Some(made.ip.clone());
            let pinned = made.host_key.as_ref().map_or(Ok(()), |key| KnownHosts::of(all).pin(&made.ip, 22, key));
            // What was made stays: it is whole, and the next run tries to write this again.
            pinned.and_then(|()| place.write(&journal)).map_err(untouched)?;
            Ok(made)
        }
        Err(error) if first.is_none() && !resumed => {
            // Nothing was there before, nothing is now. That the empty folder cannot be removed is no second failure.
            if place.journal().is_ok_and(|journal| journal.is_none()) {
                let _ = place.forget();
            }
            Err(untouched(error))
        }
        Err(error) => {
            if first.is_some() {
                report("taking back what was made");
            }
            let cleanup = take_back(client, wanted, &journal.run, first.as_ref()).await;
            if cleanup.remains.is_empty() && cleanup.older.is_empty() && !cleanup.unknown {
                let _ = place.forget();
            }
            Err(Failed { error, cleanup })
        }
    }
}

async fn make(
    client: &Client,
    wanted: &Wanted,
    place: &Place,
    journal: &Journal,
    first: &mut Option<Seen>,
    report: Report<'_>,
) -> Result<Made, Error> {
    let (mut changed, mut key) = (false, None);
    for _ in 0..MOST_STEPS {
        let seen = client.look(&wanted.name).await?;
        let todo = plan(wanted, &seen)?;
        let Some(step) = todo.steps.first() else {
            if let Some(made) = made(&seen, changed, todo.notes) {
                return Ok(Made { new: key.is_some(), ..made });
            }
            continue;
        };
        if !changed {
            check(client, wanted, &todo).await?;
            if todo.steps.contains(&Step::MakeServer) {
                // That this machine cannot make one is better known before anything costs money.
                key = Some(make_host_key().await?);
            }
            place.write(journal)?;
            *first = Some(seen.clone());
            changed = true;
        }
        report(&step.describe(wanted));
        match act(client, wanted, &journal.run, &seen, key.as_ref(), step).await {
            Err(error) if THERE_FIRST.contains(&error.code()) => {}
            other => other?,
        }
    }
    Err(Error::Slow { what: format!("'{}' does not become what was asked for", wanted.name), seconds: 0 })
}

/// What can be known to be wrong before anything is made.
async fn check(client: &Client, wanted: &Wanted, plan: &Plan) -> Result<ServerType, Error> {
    let kind = client.server_type(&wanted.server_type).await?;
    let kind = kind.ok_or_else(|| {
        Error::Usage(format!("there is no server type '{}'; the console lists them", wanted.server_type))
    })?;
    if !plan.steps.contains(&Step::MakeServer) {
        return Ok(kind);
    }
    if !kind.prices.iter().any(|price| price.location == wanted.location) {
        let places: Vec<&str> = kind.prices.iter().map(|price| price.location.as_str()).collect();
        return Err(Error::Usage(format!(
            "{} is not to be had in '{}', only in {}",
            kind.name,
            wanted.location,
            places.join(", ")
        )));
    }
    let keys = client.ssh_keys().await?;
    let known = || {
        let known: Vec<String> = keys.iter().map(|key| format!("{} ({})", key.id, key.name)).collect();
        if known.is_empty() { "none; add one in its console".to_owned() } else { known.join(", ") }
    };
    if wanted.ssh_keys.is_empty() {
        return Err(Error::Usage(format!(
            "name a key that may log in with --ssh-key-id; the project has: {}",
            known()
        )));
    }
    let missing = |asked: &&String| !keys.iter().any(|key| key.id.to_string() == **asked || key.name == **asked);
    match wanted.ssh_keys.iter().find(missing) {
        Some(missing) => Err(Error::Usage(format!("the project has no SSH key '{missing}'; it has: {}", known()))),
        None => Ok(kind),
    }
}

async fn act(
    client: &Client,
    wanted: &Wanted,
    run: &str,
    seen: &Seen,
    key: Option<&(SecretString, HostKey)>,
    step: &Step,
) -> Result<(), Error> {
    let name = &wanted.name;
    match step {
        Step::MakeFirewall => {
            client.make_firewall(&name.firewall(), &labels::ours(name, run), &wanted.access.rules()).await
        }
        Step::SetRules(firewall) => client.set_rules(*firewall, &wanted.access.rules()).await,
        Step::MakeVolume => {
            let labels = labels::ours(name, run);
            client.make_volume(&name.volume(), wanted.volume_gb, &wanted.location, &labels).await
        }
        Step::AwaitVolume(volume) => await_volume(client, *volume).await,
        Step::MakeServer => {
            let (Some(volume), Some(firewall), Some((private, public))) = (&seen.volume, &seen.firewall, key) else {
                return Err(Error::Usage("something went away meanwhile; run this again".to_owned()));
            };
            let user_data = user_data(private, &public.line());
            let new = NewServer {
                name: name.as_str(),
                server_type: &wanted.server_type,
                image: &wanted.image,
                location: &wanted.location,
                ssh_keys: &wanted.ssh_keys,
                volume: volume.id,
                firewall: firewall.id,
                labels: &labels::of_server(name, run, public),
                user_data: user_data.expose_secret(),
            };
            client.make_server(&new).await
        }
        Step::AwaitServer(server) => await_server(client, *server).await,
        Step::PowerOn(server) => client.power_on(*server).await,
        Step::ApplyFirewall { firewall, server } => client.apply_firewall(*firewall, *server).await,
        Step::AttachVolume { volume, server } => client.attach_volume(*volume, *server).await,
    }
}

/// Looks until the server runs, is gone, or has come to rest otherwise; what that means says the next plan.
async fn await_server(client: &Client, id: u64) -> Result<(), Error> {
    let until = tokio::time::Instant::now() + client.settings.patience;
    loop {
        let Some(server) = client.server(id).await? else { return Ok(()) };
        let underway = matches!(server.status.as_str(), "initializing" | "starting");
        if !underway && (server.status != "running" || server.ip().is_some()) {
            return Ok(());
        }
        wait(client, until, || format!("the server is {}", server.status)).await?;
    }
}

async fn await_volume(client: &Client, id: u64) -> Result<(), Error> {
    let until = tokio::time::Instant::now() + client.settings.patience;
    loop {
        let Some(volume) = client.volume(id).await? else { return Ok(()) };
        if volume.status == "available" {
            return Ok(());
        }
        wait(client, until, || format!("the volume is {}", volume.status)).await?;
    }
}

async fn wait(client: &Client, until: tokio::time::Instant, what: impl Fn() -> String) -> Result<(), Error> {
    if tokio::time::Instant::now() >= until {
        return Err(Error::Slow { what: what(), seconds: client.settings.patience.as_secs() });
    }
    tokio::time::sleep(client.settings.poll).await;
    Ok(())
}

fn made(seen: &Seen, changed: bool, notes: Vec<String>) -> Option<Made> {
    let server = seen.server.as_ref()?;
    Some(Made {
        server_id: server.id,
        volume_id: seen.volume.as_ref()?.id,
        firewall_id: seen.firewall.as_ref()?.id,
        ip: server.ip()?.to_owned(),
        host_key: host_key(server),
        changed,
        new: false,
        notes,
    })
}

/// The host key that a server was made with.
pub fn host_key(server: &Server) -> Option<HostKey> {
    HostKey::from_label(server.labels.get(labels::HOST_KEY)?)
}

/// Removes what this command made: what carries its run and was not there at its first change. The run alone does not
/// tell, for an interrupted command may have left it and another machine may have gone on and used what there was.
async fn take_back(client: &Client, wanted: &Wanted, run: &str, first: Option<&Seen>) -> Cleanup {
    let Ok(found) = client.belongings(&labels::selector(&wanted.name)).await else {
        return Cleanup { unknown: true, ..Cleanup::default() };
    };
    let found = found.of_run(run);
    let todo = pgdb_core::infra::removal::removal(&found, true);
    let mut cleanup = Cleanup::default();
    for removal in todo {
        if first.is_none_or(|seen| was_there(seen, &removal)) {
            cleanup.older.push(removal);
        } else if remove(client, &removal).await.is_err() {
            cleanup.remains.push(removal);
        } else {
            cleanup.removed.push(removal);
        }
    }
    cleanup
}

fn was_there(seen: &Seen, removal: &Removal) -> bool {
    let id = match removal.kind {
        Kind::Server => seen.server.as_ref().map(|server| server.id),
        Kind::Volume => seen.volume.as_ref().map(|volume| volume.id),
        Kind::Firewall => seen.firewall.as_ref().map(|firewall| firewall.id),
    };
    id == Some(removal.id)
}
