//! What is asked, checked before anything is done; and what failed, told to the one who asked.

use super::record;
use crate::problem::Problem;
use pgdb_api::instances::DeployRequest;
use pgdb_core::instance::{NEWEST_MAJOR, OLDEST_MAJOR, RuntimeKind};
use pgdb_core::name::InstanceName;
use pgdb_core::ports::PortRange;
use pgdb_core::random::Entropy;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};

/// The name of a deploy: the given one, checked, or a new one.
pub(super) fn name(request: &DeployRequest, entropy: &dyn Entropy) -> Result<InstanceName, Problem> {
    match request.name.as_deref() {
        None | Some("") => Ok(InstanceName::generate(entropy)),
        Some(given) => InstanceName::parse(given).map_err(|error| Problem::invalid("invalid_name", error.to_string())),
    }
}

/// The numbers of a deploy.
pub(super) fn numbers(request: &DeployRequest) -> Result<(), Problem> {
    within("size_gb", request.size_gb.map(u64::from), 1, 65_536)?;
    within("version", request.version.map(u64::from), OLDEST_MAJOR.into(), NEWEST_MAJOR.into())?;
    within("max_connections", request.max_connections.map(u64::from), 5, 10_000)?;
    within("memory_mb", request.memory_mb, 64, 4_194_304)
}

fn within(field: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), Problem> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            let message = format!("'{field}' is {value}; it has to be from {least} to {most}");
            Err(Problem::invalid("invalid_value", message))
        }
        _ => Ok(()),
    }
}

/// The runtime of a deploy.
pub(super) fn runtime(request: &DeployRequest, default: RuntimeKind) -> Result<RuntimeKind, Problem> {
    let Some(given) = request.runtime.as_deref() else { return Ok(default) };
    RuntimeKind::parse(given).ok_or_else(|| {
        let known: Vec<&str> = RuntimeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let shown: String = given.chars().take(40).collect();
        Problem::invalid("invalid_value", format!("there is no runtime '{shown}'; there are: {}", known.join(", ")))
    })
}

/// The first of `wanted`, `wanted-2`, … that is neither an instance's nor kept.
pub(super) fn free_volume(wanted: &str, connection: &Connection) -> Result<String, Problem> {
    let taken = &record::volumes(connection)? | &record::volumes_in_use(connection)?;
    let mut names = (1..).map(|n: u32| if n == 1 { wanted.to_owned() } else { format!("{wanted}-{n}") });
    Ok(names.find(|name| !taken.contains(name)).unwrap_or_else(|| wanted.to_owned()))
}

/// The first port that is neither given out nor, at this moment, listened on by another program.
pub(super) fn free_port(range: PortRange, listen: IpAddr, given_out: &BTreeSet<u16>) -> Result<u16, Problem> {
    let mut taken = given_out.clone();
    while let Some(port) = range.first_free(&taken) {
        if TcpListener::bind((listen, port)).is_ok() {
            return Ok(port);
        }
        taken.insert(port);
    }
    Err(ports_used_up(range))
}

/// Every port of the range is taken.
pub(super) fn ports_used_up(range: PortRange) -> Problem {
    let message = format!(
        "all {} ports of {range} are taken; destroy a database, or widen PGDB_PORT_RANGE and restart pgdb",
        range.count()
    );
    Problem::conflict("ports_used_up", message)
}
