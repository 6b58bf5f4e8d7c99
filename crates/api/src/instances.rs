//! Instances: deploy, status, destroy and what stands beside them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Body of `POST /v1/deploy`. Every field is optional; so is the body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeployRequest {
    /// 3 to 63 characters, `^[a-z][a-z0-9-]{2,62}$` once lower-cased; made up when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "mydb",
        min_length = 3,
        max_length = 63,
        pattern = "^[A-Za-z][A-Za-z0-9-]{2,62}$",
        nullable = false
    )]
    pub name: Option<String>,
    /// Disk the database may take, in GB (10^9 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65536, nullable = false)]
    pub size_gb: Option<u32>,
    /// PostgreSQL major.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 13, maximum = 18, nullable = false)]
    pub version: Option<u16>,
    /// Runtime: `process`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^(process|docker|kubernetes)$")]
    pub runtime: Option<String>,
    /// Whether the server insists on TLS.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Whether the role is a superuser. A superuser can run programs as the server's operating-system user.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superuser: bool,
    /// Whether a destroy is refused until `unprotect`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// `max_connections` of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 5, maximum = 10000, nullable = false)]
    pub max_connections: Option<u32>,
    /// Memory the server may count on, in MiB; buffers and caches follow from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 64, maximum = 4194304, nullable = false)]
    pub memory_mb: Option<u64>,
    /// A volume that an earlier destroy kept, to be taken into use again; on `docker` also one that the original daemon kept,
    /// whose role and database are found in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "pgdb-mydb", min_length = 1, max_length = 80, nullable = false)]
    pub from_volume: Option<String>,
}

/// Answer of a deploy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// What it is called.
    pub name: String,
    /// Where clients connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub db: String,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DB?sslmode=…`.
    pub database_url: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// PostgreSQL major.
    pub postgres_version: u16,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusResponse {
    /// Every instance, by name.
    pub items: Vec<StatusItem>,
}

/// One instance as it stands: the fields of the original registry, and ours.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusItem {
    /// What it is called.
    pub name: String,
    /// The engine's id of its container; our own id where it is not a container.
    #[serde(default)]
    pub container_id: String,
    /// Its volume.
    #[serde(default)]
    pub volume_name: String,
    /// Where clients connect to.
    pub host: String,
    /// TCP port.
    pub host_port: u16,
    /// Database.
    pub db: String,
    /// Role.
    pub user: String,
    /// Its password; empty for a token without the scope `instances:reveal`.
    #[serde(default)]
    pub password: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// PostgreSQL major.
    pub postgres_version: u16,
    /// Requested disk in GB.
    pub size_gb: Option<u32>,
    /// The connection URL; without the password for a token that may not reveal it.
    #[serde(default)]
    pub database_url: String,
    /// `creating`, `running`, `stopped`, `degraded`, `destroying`; `unknown` from a daemon that does not say.
    #[serde(default = "unknown")]
    pub state: String,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `process`, `docker` or `kubernetes`.
    #[serde(default = "unknown")]
    pub runtime: String,
    /// Whether a destroy is refused.
    #[serde(default)]
    pub protected: bool,
    /// Whether the server insists on TLS.
    #[serde(default)]
    pub tls: bool,
    /// Whether it takes more disk than was asked for.
    #[serde(default)]
    pub over_quota: bool,
    /// Bytes of disk it took when last measured.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// What else a destroy removes. Only where one instance is asked for, and it holds something of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Holds>,
}

/// The previews on an instance, and the templates that they are cloned from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holds {
    /// Databases of previews, by template and number.
    pub previews: Vec<String>,
    /// Databases of templates, by name.
    pub templates: Vec<String>,
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// `{"ok": true}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ok {
    /// Always true.
    pub ok: bool,
    /// The volume that was kept, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// The previews and templates that were on it, where there were any: they are gone, or with their data kept, forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Holds>,
}

/// Query of `DELETE /v1/db/{name}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct DestroyQuery {
    /// Keep the data for a later deploy.
    pub keep_data: bool,
    /// With false: answer 202 with the operation at once.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
}

/// Query of routes that change something.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// With false: answer 202 with the operation at once.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
}

fn yes() -> bool {
    true
}

/// Query of `GET /v1/db/{name}/logs`.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// How many of the last lines.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 0, maximum = 100000)]
    pub lines: usize,
    /// Whether to go on as more is written.
    #[serde(default)]
    pub follow: bool,
}

fn hundred() -> usize {
    100
}
