//! The one shape of every error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What every route answers when it cannot do what was asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable code in snake_case; each has a page in `docs/errors/`.
    #[schema(example = "name_taken")]
    pub error: String,
    /// A sentence for a person: what happened, why, and what to do.
    #[schema(example = "database name 'mydb' already exists")]
    pub message: String,
    /// Also in the `x-request-id` header; the daemon's log line has it too.
    pub request_id: String,
    /// The operation that failed or stands in the way, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}
