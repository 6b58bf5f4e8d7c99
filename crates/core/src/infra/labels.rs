//! The labels that everything of ours carries at the provider.

use super::host_key::HostKey;
use super::name::InfraName;
use std::collections::BTreeMap;

/// Says that pgdb made something.
pub const MANAGED_BY: (&str, &str) = ("managed-by", "pgdb");
/// Names the server that something belongs to.
pub const NAME: &str = "pgdb-name";
/// Names the run of `init` that made something: only that run may take it away again by itself.
pub const RUN: &str = "pgdb-run";
/// Holds a server's public host key.
pub const HOST_KEY: &str = "pgdb-host-key";

/// Labels as the provider keeps them.
pub type Labels = BTreeMap<String, String>;

/// What a run puts on everything it makes.
pub fn ours(name: &InfraName, run: &str) -> Labels {
    let pairs = [(MANAGED_BY.0, MANAGED_BY.1), (NAME, name.as_str()), (RUN, run)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The same for a server, whose host key is known before it runs.
pub fn of_server(name: &InfraName, run: &str, host_key: &HostKey) -> Labels {
    let mut labels = ours(name, run);
    labels.insert(HOST_KEY.to_owned(), host_key.label());
    labels
}

/// Whether something is ours and belongs to this server.
pub fn are_ours(labels: &Labels, name: &InfraName) -> bool {
    labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1)
        && labels.get(NAME).is_some_and(|value| value == name.as_str())
}

/// What selects all that pgdb made.
pub fn selector_of_all() -> String {
    format!("{}=={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// What selects all that belongs to one server.
pub fn selector(name: &InfraName) -> String {
    format!("{},{NAME}=={name}", selector_of_all())
}
