//! What the Hetzner Cloud API says, as far as we look at it.

use super::labels::Labels;
use serde::{Deserialize, Serialize};

/// A place where servers and volumes are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Location {
    /// Such as `nbg1`.
    pub name: String,
}

/// A rule of a firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `in` or `out`.
    pub direction: String,
    /// `tcp`, `udp`, `icmp`, …
    pub protocol: String,
    /// `22`, or `20000-20999`.
    pub port: Option<String>,
    /// Blocks of addresses that are let in.
    #[serde(default)]
    pub source_ips: Vec<String>,
    /// For a person who looks at it.
    pub description: Option<String>,
}

/// A firewall.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Firewall {
    /// Given by the provider.
    pub id: u64,
    /// Unique in a project.
    pub name: String,
    /// See [`super::labels`].
    pub labels: Labels,
    /// In no particular order.
    pub rules: Vec<Rule>,
}

/// Whether something may be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Protection {
    /// Deleting it is refused.
    pub delete: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Given by the provider.
    pub id: u64,
    /// Unique in a project.
    pub name: String,
    /// See [`super::labels`].
    pub labels: Labels,
    /// In GB.
    pub size: u32,
    /// `creating` or `available`.
    pub status: String,
    /// The server that it is attached to.
    pub server: Option<u64>,
    /// Where it is; it can only be attached to a server there.
    pub location: Location,
    /// Whether it may be deleted.
    #[serde(default)]
    pub protection: Protection,
}

/// An address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// Without a prefix.
    pub ip: String,
}

/// A firewall as a server has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppliedFirewall {
    /// The firewall's.
    pub id: u64,
}

/// A server's side of the Internet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PublicNet {
    /// Its IPv4 address.
    pub ipv4: Option<Address>,
    /// Its firewalls.
    #[serde(default)]
    pub firewalls: Vec<AppliedFirewall>,
}

/// The kind of a server, as a server names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TypeName {
    /// Such as `cpx21`.
    pub name: String,
}

/// A building with servers in it. Newer answers of the API name the location alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Datacenter {
    /// Where it is.
    pub location: Location,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Given by the provider.
    pub id: u64,
    /// Unique in a project.
    pub name: String,
    /// See [`super::labels`].
    pub labels: Labels,
    /// `initializing`, `starting`, `running`, `stopping`, `off`, `deleting`, `migrating`, `rebuilding`, `unknown`.
    pub status: String,
    /// Its addresses and firewalls.
    pub public_net: PublicNet,
    /// What was ordered.
    pub server_type: TypeName,
    /// Where it is, by older answers.
    pub datacenter: Option<Datacenter>,
    /// Where it is, by newer answers.
    pub location: Option<Location>,
    /// Whether it may be deleted.
    #[serde(default)]
    pub protection: Protection,
}

impl Server {
    /// The name of the place that it is in.
    pub fn location(&self) -> &str {
        let place = self.location.as_ref().or(self.datacenter.as_ref().map(|datacenter| &datacenter.location));
        place.map_or("", |location| location.name.as_str())
    }

    /// Its public IPv4 address, once it has one.
    pub fn ip(&self) -> Option<&str> {
        self.public_net.ipv4.as_ref().map(|address| address.ip.as_str())
    }
}

/// Something that the provider is doing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Action {
    /// To ask for it by.
    pub id: u64,
    /// Such as `create_server`.
    pub command: String,
    /// `running`, `success` or `error`.
    pub status: String,
    /// Why it failed.
    pub error: Option<ApiError>,
}

/// Why something was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// An amount of money, as decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Amount {
    /// Without value added tax.
    pub net: String,
}

/// What something costs in one place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlacePrice {
    /// The place; empty where a price is the same everywhere.
    #[serde(default)]
    pub location: String,
    /// For an hour.
    pub price_hourly: Amount,
    /// At most, for a month.
    pub price_monthly: Amount,
}

/// A kind of server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServerType {
    /// Such as `cpx21`.
    pub name: String,
    /// Processors.
    pub cores: u32,
    /// In GB.
    pub memory: f64,
    /// In GB.
    pub disk: u32,
    /// `x86` or `arm`.
    pub architecture: String,
    /// One for each place that has it.
    pub prices: Vec<PlacePrice>,
}

/// What addresses of one kind cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AddressPrice {
    /// `ipv4` or `ipv6`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One for each place.
    pub prices: Vec<PlacePrice>,
}

/// What volumes cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumePrice {
    /// For a GB and a month.
    pub price_per_gb_month: Amount,
}

/// The provider's price list, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pricing {
    /// Such as `EUR`.
    pub currency: String,
    /// Volumes'.
    pub volume: VolumePrice,
    /// Addresses'; absent in older answers.
    #[serde(default)]
    pub primary_ips: Vec<AddressPrice>,
}

/// An SSH key of the project.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SshKey {
    /// What `--ssh-key-id` names.
    pub id: u64,
    /// What a person called it.
    pub name: String,
}
