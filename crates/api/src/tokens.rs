//! Access tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A label for people.
    #[schema(min_length = 1, max_length = 100, example = "ci")]
    pub name: String,
    /// What it may do: `admin`, `instances:read`, `instances:write`, `instances:reveal`, `operations:read`,
    /// `audit:read`, `previews`, `templates`, `migrations`, `rest`.
    #[schema(min_items = 1, max_items = 20, example = json!(["instances:read"]))]
    pub scopes: Vec<String>,
    /// Seconds until it stops working; it never does when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3153600000u64, nullable = false)]
    pub expires_in_seconds: Option<u64>,
}

/// Answer of `POST /v1/tokens`: the only time that the token's text is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The text to send as `Authorization: Bearer …`.
    pub token: String,
    /// What is known of it from now on.
    pub info: TokenInfo,
}

/// A token without its text.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// `tk_…`.
    pub id: String,
    /// A label for people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// `GET /v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokensResponse {
    /// All tokens, revoked and expired ones too.
    pub items: Vec<TokenInfo>,
}
