//! PostgreSQL installations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One PostgreSQL installation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EngineInfo {
    /// Major version.
    pub major: u16,
    /// Full version.
    pub version: String,
    /// Where its programs are.
    pub bin_dir: String,
    /// Whether a deploy without a version takes it.
    pub default: bool,
}

/// `GET /v1/engines`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnginesResponse {
    /// Newest first.
    pub items: Vec<EngineInfo>,
}

/// Body of `POST /v1/engines/{major}/install`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstallEngine {
    /// An archive or a folder on the daemon's machine; the system's packages when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub source: Option<String>,
}
