//! The daemon itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/shutdown`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Stop the databases too; they start again with the daemon. With false they go on without it.
    pub stop_databases: bool,
}

/// Answer of `POST /v1/registry/import`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// Names that were taken over.
    pub imported: Vec<String>,
    /// Names that were left out, each with the reason.
    pub skipped: Vec<Skipped>,
}

/// An item of a registry that was not taken over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Answer of `POST /v1/keys/rotate`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyRotated {
    /// The new key's public id.
    pub key_id: String,
    /// How many secrets were sealed anew.
    pub resealed: usize,
}

/// One finding of `GET /v1/doctor`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `ok`, `warning` or `problem`.
    pub level: String,
    /// What was looked at.
    pub check: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// `GET /v1/doctor`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    /// The findings, problems first.
    pub findings: Vec<Finding>,
}
