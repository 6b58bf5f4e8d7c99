//! What an instance is: one PostgreSQL server that we deployed.

use crate::operation::text_enum;
use serde::{Deserialize, Serialize};

text_enum! {
    /// What an instance runs on.
    RuntimeKind {
        /// A PostgreSQL server as a supervised process of this machine.
        Process = "process",
        /// A container of any engine that speaks the Docker API.
        Docker = "docker",
        /// A custom resource of a Kubernetes operator.
        Kubernetes = "kubernetes",
    }
}

text_enum! {
    /// What an instance is seen to be.
    InstanceState {
        /// Its deploy has not ended.
        Creating = "creating",
        /// Its server accepts connections.
        Running = "running",
        /// Stopped on request.
        Stopped = "stopped",
        /// It should run and does not; the reason stands beside it.
        Degraded = "degraded",
        /// Its destroy has not ended.
        Destroying = "destroying",
    }
}

text_enum! {
    /// What an instance should be.
    DesiredState {
        /// Its server should run.
        Running = "running",
        /// Its server should not run.
        Stopped = "stopped",
    }
}

/// The oldest PostgreSQL major that we run.
pub const OLDEST_MAJOR: u16 = 13;
/// The newest PostgreSQL major that we know.
pub const NEWEST_MAJOR: u16 = 18;

/// The settings a person may choose at deploy; everything else follows from the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestedSettings {
    /// `max_connections`.
    pub max_connections: Option<u32>,
    /// Memory the server may count on, in MiB; `shared_buffers` and the rest follow from it.
    pub memory_mb: Option<u64>,
}
