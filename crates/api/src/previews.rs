//! Previews: a database for each pull request, cloned from a template.

use crate::operations::Operation;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{IntoParams, ToSchema};

/// Body of `POST /v1/preview-db/ensure`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsurePreview {
    /// The pull request's number: a positive integer, as a number or as a string of digits.
    #[schema(schema_with = pr_number)]
    pub pr_number: Value,
    /// How long it lives from now on, such as `12h` or `14d`; `never` for as long as nobody deletes it. The daemon's
    /// default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "14d", pattern = "^([0-9]{1,9}[smhd]|never)$")]
    pub ttl: Option<String>,
    /// Notes for people and scripts, shown with the preview; they replace those of an earlier call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Disabled: the daemon's configuration names the template.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub template_db: Option<Value>,
    /// Disabled: the daemon's configuration names the owner.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub owner: Option<Value>,
}

fn pr_number() -> RefOr<Schema> {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1));
    let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[1-9][0-9]{0,9}$"));
    OneOfBuilder::new().item(number).item(digits).examples([serde_json::json!(123)]).into()
}

/// Answer of an ensure.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnsuredPreview {
    /// The database.
    #[schema(example = "medusa_pr_123")]
    pub db_name: String,
    /// Whether it was made for this call. Of several calls at once exactly one is told so.
    pub created: bool,
    /// The role that owns everything in it.
    #[schema(example = "medusa_pr_app_123")]
    pub app_user: String,
    /// The role's password.
    pub app_password: String,
}

/// Body of `POST /v1/previews/bootstrap`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// URL of an administrator of the server. Not kept.
    #[schema(example = "postgres://postgres:secret@db.example/postgres")]
    pub admin_url: String,
}

/// Answer of `POST /v1/previews/bootstrap`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BootstrapResponse {
    /// What was changed, a sentence each; empty when everything was as it has to be.
    pub changed: Vec<String>,
}

/// Answer of `DELETE /v1/preview-db/{pr_number}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeletedPreview {
    /// The database.
    pub db_name: String,
    /// Whether there was one.
    pub deleted: bool,
    /// Its role.
    pub app_user: String,
    /// Whether there was one, and it is gone.
    pub role_deleted: bool,
    /// Why the role is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub role_kept_reason: Option<String>,
    /// True when there was nothing to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noop: bool,
    /// Why there was nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub noop_reason: Option<String>,
}

/// Answer of `POST /v1/webhooks/github`, never with a password.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum WebhookAnswer {
    /// To a `ping`.
    Pong {
        /// Always true.
        pong: bool,
    },
    /// Nothing is done.
    Ignored {
        /// Why.
        ignored: String,
    },
    /// The preview was there already.
    Present {
        /// The preview, with an empty password.
        preview: Box<Preview>,
    },
    /// There was nothing to delete.
    Absent {
        /// What a delete answers.
        deleted: DeletedPreview,
    },
    /// It has to wait for something else first, such as the preparation of the template. It begins as soon as it can,
    /// unless the daemon ends before that.
    Pending {
        /// What will be made or deleted, such as `preview 123`.
        pending: String,
    },
    /// The operation that was begun.
    Operation(Box<Operation>),
}

/// Query of the routes of a preview.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// With false: answer 202 with the operation at once.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
    /// An instance of this daemon that the preview is on; the configured server when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
}

/// Query of the original's two routes.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewDbQuery {
    /// With false: answer 202 with the operation at once.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
    /// An instance of this daemon that the preview is on; the configured server when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The template that it is cloned from; the configured one when left out. Previews of every other template are
    /// called after it: `shop_pr_123`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "shop")]
    pub template: Option<String>,
}

fn yes() -> bool {
    true
}

/// Query of the list of previews.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PreviewListQuery {
    /// An instance of this daemon; every server when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// A template; all of them when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// Query of routes that only look.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct OnQuery {
    /// An instance of this daemon; the configured server when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
}

/// One preview as it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The template that it was cloned from.
    pub template: String,
    /// The pull request's number.
    pub number: u64,
    /// `creating`, `ready`, `deleting` or `broken`.
    pub state: String,
    /// Why it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The instance that it is on; none on the configured external server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Where clients connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database.
    pub db_name: String,
    /// The role that owns everything in it.
    pub app_user: String,
    /// The role's password, for a token with the scope `previews`.
    pub app_password: String,
    /// The connection URL of the role.
    pub database_url: String,
    /// Whether a delete is refused, and the sweeper passes it by.
    pub protected: bool,
    /// Notes for people and scripts.
    pub labels: BTreeMap<String, String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last asked for.
    #[schema(value_type = String, format = DateTime)]
    pub used_at: Timestamp,
    /// When the sweeper deletes it; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The generation of the template that it was cloned from.
    pub generation: u64,
}

/// `GET /v1/previews`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PreviewsResponse {
    /// Every preview, by template and number. Without passwords.
    pub items: Vec<Preview>,
    /// What is kept ready.
    pub pools: Vec<PreviewPool>,
}

/// The clones of one template that are kept ready.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PreviewPool {
    /// The instance that it is on; none on the configured external server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The template.
    pub template: String,
    /// Its generation: counts up with every change of it.
    pub generation: u64,
    /// How it is copied.
    pub strategy: String,
    /// What copies of it took, each way that was tried: milliseconds, where the newest counts for a half; null for a way
    /// that does not work on its server.
    #[schema(example = json!({"file_copy": 153.2, "wal_log": 281.0}))]
    pub copy_ms: BTreeMap<String, Option<f64>>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Clones that can be handed out.
    pub ready: u32,
    /// Clones that are being made.
    pub making: u32,
    /// Databases of the clones that can be handed out.
    pub entries: Vec<String>,
    /// The numbers that they have the passwords of.
    pub numbers: Vec<u64>,
}

/// Body of `POST /v1/previews/{template}/{number}/extend`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendPreview {
    /// How long it lives from now on, such as `12h` or `14d`; `never` for as long as nobody deletes it.
    #[schema(example = "14d", pattern = "^([0-9]{1,9}[smhd]|never)$")]
    pub ttl: String,
}

/// Something that no record accounts for, or a record that nothing accounts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// `database`, `role`, `record`, `invalid_database` or `directory`.
    pub kind: String,
    /// What it is called.
    pub name: String,
    /// What it is, and what becomes of it.
    pub message: String,
    /// `reported`, `adopted`, `removed`, `kept` when it cannot be removed, or what `pgdb preview gc` would do.
    pub action: String,
}

/// `GET /v1/previews/orphans`, `POST /v1/previews/gc`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OrphansResponse {
    /// What was found, and what was or would be done about it.
    pub items: Vec<Orphan>,
}

/// Query of `POST /v1/previews/gc`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct GcQuery {
    /// An instance of this daemon; the configured server when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}
