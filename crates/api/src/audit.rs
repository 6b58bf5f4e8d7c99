//! The audit log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One thing that somebody asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Counts up.
    pub id: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who: a token's id, or which bootstrap token.
    pub actor: String,
    /// The address the request came from.
    pub remote: String,
    /// What, such as `POST /v1/deploy`.
    pub action: String,
    /// On what, such as `instance/mydb`.
    pub subject: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The error's code when it was refused or failed.
    #[serde(default)]
    pub error: Option<String>,
    /// The request's id.
    pub request_id: String,
}

/// `GET /v1/audit`: a page, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<AuditEntry>,
    /// Give this as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// Query of `GET /v1/audit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries older than this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub before: Option<i64>,
    /// 1 to 500; 50 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Only entries on this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}
