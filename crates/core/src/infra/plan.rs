//! What to do so that a server, its volume and its firewall are as they are wanted.
//!
//! `init` looks, plans, does the first step, and looks again until nothing is left to do: so it does not matter where an
//! earlier run ended.

use super::cidr::Cidr;
use super::cloud::{Firewall, Rule, Server, Volume};
use super::labels::{self, Labels};
use super::name::InfraName;
use crate::ports::PortRange;
use std::collections::BTreeSet;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The server's name.
    pub name: InfraName,
    /// Where, such as `nbg1`.
    pub location: String,
    /// Such as `cpx21`.
    pub server_type: String,
    /// Such as `ubuntu-24.04`.
    pub image: String,
    /// In GB.
    pub volume_gb: u32,
    /// Ids or names of keys that may log in as root.
    pub ssh_keys: Vec<String>,
    /// What the firewall lets in.
    pub access: Access,
}

/// What the firewall lets in, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who may reach the API of pgdb.
    pub api_from: Vec<Cidr>,
    /// Who may reach SSH.
    pub ssh_from: Vec<Cidr>,
    /// Where pgdb listens.
    pub api_port: u16,
    /// Ports of databases that `api_from` may reach as well.
    pub databases: Option<PortRange>,
}

impl Access {
    /// The firewall's rules. What none of them names is kept out.
    pub fn rules(&self) -> Vec<Rule> {
        let rule = |port: String, from: &[Cidr], description: &str| Rule {
            direction: "in".to_owned(),
            protocol: "tcp".to_owned(),
            port: Some(port),
            source_ips: from.iter().collect::<BTreeSet<_>>().into_iter().map(ToString::to_string).collect(),
            description: Some(description.to_owned()),
        };
        let mut rules = vec![
            rule("22".to_owned(), &self.ssh_from, "SSH"),
            rule(self.api_port.to_string(), &self.api_from, "pgdb API"),
        ];
        rules.extend(self.databases.map(|range| rule(range.to_string(), &self.api_from, "databases")));
        rules
    }

    /// What a careful person would not do.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.ssh_from.iter().any(|cidr| cidr.is_everybody()) {
            warnings
                .push("everybody in the world can reach SSH on this server; only its keys keep them out".to_owned());
        }
        if self.api_from.iter().any(|cidr| cidr.is_everybody()) {
            warnings.push(format!(
                "everybody in the world can reach port {} of this server; only the token keeps them out",
                self.api_port
            ));
            if self.databases.is_some() {
                warnings.push(
                    "everybody in the world can reach its databases; only their passwords keep them out".to_owned(),
                );
            }
        }
        warnings
    }
}

/// What is there under the names that belong to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The firewall of that name.
    pub firewall: Option<Firewall>,
    /// The volume of that name.
    pub volume: Option<Volume>,
    /// The server of that name.
    pub server: Option<Server>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the firewall.
    MakeFirewall,
    /// Replace the rules of the firewall with this id.
    SetRules(u64),
    /// Make the volume, with a file system.
    MakeVolume,
    /// Wait until the volume with this id is available.
    AwaitVolume(u64),
    /// Make the server, with its firewall and volume.
    MakeServer,
    /// Wait until the server with this id runs.
    AwaitServer(u64),
    /// Switch on the server with this id.
    PowerOn(u64),
    /// Put the firewall before a server.
    ApplyFirewall {
        /// The firewall's id.
        firewall: u64,
        /// The server's id.
        server: u64,
    },
    /// Attach the volume to a server.
    AttachVolume {
        /// The volume's id.
        volume: u64,
        /// The server's id.
        server: u64,
    },
}

/// What to do, in this order, and what is worth knowing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nothing here: all is as it is wanted.
    pub steps: Vec<Step>,
    /// What is there and stays as it is, although something else was asked for.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Something has the name and is not ours.
    #[error(
        "the project has a {kind} named '{name}' that pgdb did not make for this server (it lacks the labels); take \
         another --name, or rename that {kind}"
    )]
    NotOurs {
        /// `firewall`, `volume` or `server`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A volume cannot leave its place.
    #[error(
        "the volume '{name}' is in {is}, and a volume can only be used where it is; use --location {is}, or another --name"
    )]
    Elsewhere {
        /// The volume's name.
        name: String,
        /// Where it is.
        is: String,
    },
    /// Another server uses the volume.
    #[error("the volume '{name}' is attached to another server (id {server}); detach it there first")]
    Attached {
        /// The volume's name.
        name: String,
        /// The other server's id.
        server: u64,
    },
    /// The server is in a state in which nothing can be done with it.
    #[error("the server '{name}' is {status}; wait until that is over, then run this again")]
    Busy {
        /// The server's name.
        name: String,
        /// What the provider calls its state.
        status: String,
    },
}

/// Compares what is there with what is wanted.
pub fn plan(wanted: &Wanted, seen: &Seen) -> Result<Plan, Impossible> {
    let mut plan = Plan::default();
    if let Some(firewall) = &seen.firewall {
        ours(wanted, "firewall", &firewall.name, &firewall.labels)?;
        if !same_rules(&firewall.rules, &wanted.access.rules()) {
            plan.steps.push(Step::SetRules(firewall.id));
        }
    } else {
        plan.steps.push(Step::MakeFirewall);
    }
    if let Some(volume) = &seen.volume {
        ours(wanted, "volume", &volume.name, &volume.labels)?;
        plan_volume(wanted, seen, volume, &mut plan)?;
    } else {
        plan.steps.push(Step::MakeVolume);
    }
    if let Some(server) = &seen.server {
        ours(wanted, "server", &server.name, &server.labels)?;
        plan_server(wanted, seen, server, &mut plan)?;
    } else {
        plan.steps.push(Step::MakeServer);
    }
    Ok(plan)
}

fn ours(wanted: &Wanted, kind: &'static str, name: &str, labels: &Labels) -> Result<(), Impossible> {
    let ours = labels::are_ours(labels, &wanted.name);
    if ours { Ok(()) } else { Err(Impossible::NotOurs { kind, name: name.to_owned() }) }
}

fn plan_volume(wanted: &Wanted, seen: &Seen, volume: &Volume, plan: &mut Plan) -> Result<(), Impossible> {
    let place = seen.server.as_ref().map_or(wanted.location.as_str(), Server::location);
    if volume.location.name != place {
        return Err(Impossible::Elsewhere { name: volume.name.clone(), is: volume.location.name.clone() });
    }
    let other = volume.server.filter(|id| seen.server.as_ref().is_none_or(|server| server.id != *id));
    if let Some(server) = other {
        return Err(Impossible::Attached { name: volume.name.clone(), server });
    }
    if volume.size != wanted.volume_gb {
        plan.notes.push(format!(
            "the volume '{}' is there with {} GB and what is on it, and stays so; {} GB were asked for",
            volume.name, volume.size, wanted.volume_gb
        ));
    }
    if volume.status != "available" {
        plan.steps.push(Step::AwaitVolume(volume.id));
    }
    Ok(())
}

fn plan_server(wanted: &Wanted, seen: &Seen, server: &Server, plan: &mut Plan) -> Result<(), Impossible> {
    for (what, is, asked) in [
        ("type", &server.server_type.name, &wanted.server_type),
        ("place", &server.location().to_owned(), &wanted.location),
    ] {
        if is != asked {
            let name = &server.name;
            plan.notes.push(format!(
                "the server '{name}' is there with the {what} {is}, and stays so; {asked} was asked for"
            ));
        }
    }
    let awaited = match server.status.as_str() {
        "running" if server.ip().is_some() => false,
        "running" | "initializing" | "starting" => true,
        "off" => {
            plan.steps.push(Step::PowerOn(server.id));
            true
        }
        status => return Err(Impossible::Busy { name: server.name.clone(), status: status.to_owned() }),
    };
    if awaited {
        plan.steps.push(Step::AwaitServer(server.id));
    }
    if let Some(firewall) = &seen.firewall
        && !server.public_net.firewalls.iter().any(|applied| applied.id == firewall.id)
    {
        plan.steps.push(Step::ApplyFirewall { firewall: firewall.id, server: server.id });
    }
    if let Some(volume) = seen.volume.as_ref().filter(|volume| volume.server.is_none()) {
        plan.steps.push(Step::AttachVolume { volume: volume.id, server: server.id });
    }
    Ok(())
}

/// Neither the order nor what is written beside a rule matters.
fn same_rules(left: &[Rule], right: &[Rule]) -> bool {
    let key = |rule: &Rule| {
        let mut from = rule.source_ips.clone();
        from.sort();
        (rule.direction.clone(), rule.protocol.clone(), rule.port.clone(), from)
    };
    let keys = |rules: &[Rule]| rules.iter().map(key).collect::<BTreeSet<_>>();
    keys(left) == keys(right)
}

impl Step {
    /// The step for a person, before it is done.
    pub fn describe(&self, wanted: &Wanted) -> String {
        let Wanted { name, location, server_type, image, volume_gb, .. } = wanted;
        match self {
            Self::MakeFirewall | Self::SetRules(_) => {
                let verb = if *self == Self::MakeFirewall { "make" } else { "set the rules of" };
                let rules = wanted.access.rules();
                let rules = rules.iter().map(|rule| {
                    let what = rule.description.as_deref().unwrap_or_default();
                    format!(
                        "{what} (tcp {}) from {}",
                        rule.port.as_deref().unwrap_or_default(),
                        rule.source_ips.join(", ")
                    )
                });
                format!("{verb} the firewall '{}': {}", name.firewall(), rules.collect::<Vec<_>>().join("; "))
            }
            Self::MakeVolume => format!("make the volume '{}': {volume_gb} GB in {location}, ext4", name.volume()),
            Self::AwaitVolume(_) => format!("wait for the volume '{}'", name.volume()),
            Self::MakeServer => format!(
                "make the server '{name}': {server_type} in {location}, {image}, SSH keys {}",
                wanted.ssh_keys.join(", ")
            ),
            Self::AwaitServer(_) => format!("wait for the server '{name}'"),
            Self::PowerOn(_) => format!("switch on the server '{name}'"),
            Self::ApplyFirewall { .. } => format!("put the firewall '{}' before the server", name.firewall()),
            Self::AttachVolume { .. } => format!("attach the volume '{}' to the server", name.volume()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::cloud::{Address, AppliedFirewall, Location, Protection, PublicNet, TypeName};

    fn wanted() -> Wanted {
        Wanted {
            name: InfraName::parse("pgdb-prod").expect("a name"),
            location: "nbg1".to_owned(),
            server_type: "cpx21".to_owned(),
            image: "ubuntu-24.04".to_owned(),
            volume_gb: 40,
            ssh_keys: vec!["1234567".to_owned()],
            access: Access {
                api_from: vec!["203.0.113.0/24".parse().expect("a block")],
                ssh_from: vec!["203.0.113.7".parse().expect("a block"), "2001:db8::/32".parse().expect("a block")],
                api_port: 8080,
                databases: None,
            },
        }
    }

    fn all_there() -> Seen {
        let wanted = wanted();
        let ours = labels::ours(&wanted.name, "abc");
        let place = Location { name: "nbg1".to_owned() };
        Seen {
            firewall: Some(Firewall {
                id: 1,
                name: wanted.name.firewall(),
                labels: ours.clone(),
                rules: wanted.access.rules().into_iter().rev().collect(),
            }),
            volume: Some(Volume {
                id: 2,
                name: wanted.name.volume(),
                labels: ours.clone(),
                size: 40,
                status: "available".to_owned(),
                server: Some(3),
                location: place.clone(),
                protection: Protection::default(),
            }),
            server: Some(Server {
                id: 3,
                name: "pgdb-prod".to_owned(),
                labels: ours,
                status: "running".to_owned(),
                public_net: PublicNet {
                    ipv4: Some(Address { ip: "203.0.113.10".to_owned() }),
                    firewalls: vec![AppliedFirewall { id: 1 }],
                },
                server_type: TypeName { name: "cpx21".to_owned() },
                datacenter: None,
                location: Some(place),
                protection: Protection::default(),
            }),
        }
    }

    fn text(wanted: &Wanted, seen: &Seen) -> String {
        match plan(wanted, seen) {
            Ok(plan) => {
                let steps = plan.steps.iter().map(|step| step.describe(wanted));
                steps.chain(plan.notes.iter().map(|note| format!("note: {note}"))).collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn from_nothing_everything_is_made_in_order() {
        insta::assert_snapshot!(text(&wanted(), &Seen::default()), @"
        make the firewall 'pgdb-prod-firewall': SSH (tcp 22) from 203.0.113.7/32, 2001:db8::/32; pgdb API (tcp 8080) from 203.0.113.0/24
        make the volume 'pgdb-prod-data': 40 GB in nbg1, ext4
        make the server 'pgdb-prod': cpx21 in nbg1, ubuntu-24.04, SSH keys 1234567
        ");
    }

    #[test]
    fn what_is_there_is_left_alone() {
        assert_eq!(plan(&wanted(), &all_there()), Ok(Plan::default()));
    }

    #[test]
    fn what_differs_is_mended_or_told() {
        let mut seen = all_there();
        if let (Some(firewall), Some(volume), Some(server)) = (&mut seen.firewall, &mut seen.volume, &mut seen.server) {
            firewall.rules.pop();
            volume.server = None;
            volume.size = 80;
            server.status = "off".to_owned();
            server.public_net.firewalls.clear();
            server.server_type.name = "cx22".to_owned();
        }
        insta::assert_snapshot!(text(&wanted(), &seen), @"
        set the rules of the firewall 'pgdb-prod-firewall': SSH (tcp 22) from 203.0.113.7/32, 2001:db8::/32; pgdb API (tcp 8080) from 203.0.113.0/24
        switch on the server 'pgdb-prod'
        wait for the server 'pgdb-prod'
        put the firewall 'pgdb-prod-firewall' before the server
        attach the volume 'pgdb-prod-data' to the server
        note: the volume 'pgdb-prod-data' is there with 80 GB and what is on it, and stays so; 40 GB were asked for
        note: the server 'pgdb-prod' is there with the type cx22, and stays so; cpx21 was asked for
        ");
    }

    #[test]
    fn what_is_not_ours_or_cannot_be_used_ends_the_plan() {
        let mut told = Vec::new();
        let mut seen = all_there();
        seen.firewall.as_mut().expect("one").labels.clear();
        told.push(text(&wanted(), &seen));
        let mut seen = all_there();
        seen.server.as_mut().expect("one").labels.insert(labels::NAME.to_owned(), "another".to_owned());
        told.push(text(&wanted(), &seen));
        let mut seen = all_there();
        seen.server = None;
        told.push(text(&wanted(), &seen));
        seen.volume.as_mut().expect("one").location.name = "fsn1".to_owned();
        told.push(text(&wanted(), &seen));
        let mut seen = all_there();
        seen.server.as_mut().expect("one").status = "deleting".to_owned();
        told.push(text(&wanted(), &seen));
        insta::assert_snapshot!(told.join("\n"), @"
        error: the project has a firewall named 'pgdb-prod-firewall' that pgdb did not make for this server (it lacks the labels); take another --name, or rename that firewall
        error: the project has a server named 'pgdb-prod' that pgdb did not make for this server (it lacks the labels); take another --name, or rename that server
        error: the volume 'pgdb-prod-data' is attached to another server (id 3); detach it there first
        error: the volume 'pgdb-prod-data' is in fsn1, and a volume can only be used where it is; use --location fsn1, or another --name
        error: the server 'pgdb-prod' is deleting; wait until that is over, then run this again
        ");
    }

    #[test]
    fn doors_that_are_open_to_everybody_are_told() {
        let mut access = wanted().access;
        assert_eq!(access.warnings(), Vec::<String>::new());
        access.databases = Some(PortRange::default());
        access.api_from.push("::/0".parse().expect("a block"));
        access.ssh_from.push("0.0.0.0/0".parse().expect("a block"));
        assert_eq!(access.warnings().len(), 3);
        assert_eq!(access.rules()[2].port.as_deref(), Some("15432-19431"));
    }
}
