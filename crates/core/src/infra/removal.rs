//! What goes away with a server, and in which order.

use super::cloud::{Firewall, Server, Volume};
use super::labels::{self, Labels};

/// Everything that carries a server's labels. Usually one of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Servers.
    pub servers: Vec<Server>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Firewalls.
    pub firewalls: Vec<Firewall>,
}

/// One thing to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What it is.
    pub kind: Kind,
    /// By which it is deleted.
    pub id: u64,
    /// For people.
    pub name: String,
    /// The provider was told to refuse it.
    pub protected: bool,
}

/// Kinds of what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server, with its own disk.
    Server,
    /// A volume, with what is on it.
    Volume,
    /// A firewall.
    Firewall,
}

impl Kind {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Volume => "volume",
            Self::Firewall => "firewall",
        }
    }

    /// Where the API has them.
    pub fn path(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Volume => "volumes",
            Self::Firewall => "firewalls",
        }
    }
}

impl Belongings {
    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.volumes.is_empty() && self.firewalls.is_empty()
    }

    /// Only what one run of `init` made.
    #[must_use]
    pub fn of_run(self, run: &str) -> Self {
        let made = |labels: &Labels| labels.get(labels::RUN).is_some_and(|value| value == run);
        Self {
            servers: self.servers.into_iter().filter(|server| made(&server.labels)).collect(),
            volumes: self.volumes.into_iter().filter(|volume| made(&volume.labels)).collect(),
            firewalls: self.firewalls.into_iter().filter(|firewall| made(&firewall.labels)).collect(),
        }
    }
}

/// What to remove: servers first, for they use the rest. Volumes stay unless they are named.
pub fn removal(there: &Belongings, with_volumes: bool) -> Vec<Removal> {
    let servers = there.servers.iter().map(|server| Removal {
        kind: Kind::Server,
        id: server.id,
        name: server.name.clone(),
        protected: server.protection.delete,
    });
    let volumes = there.volumes.iter().filter(|_| with_volumes).map(|volume| Removal {
        kind: Kind::Volume,
        id: volume.id,
        name: volume.name.clone(),
        protected: volume.protection.delete,
    });
    let firewalls = there.firewalls.iter().map(|firewall| Removal {
        kind: Kind::Firewall,
        id: firewall.id,
        name: firewall.name.clone(),
        protected: false,
    });
    servers.chain(volumes).chain(firewalls).collect()
}
