//! Templates: the databases that previews are cloned from.

use crate::migrations::{MigrationPolicy, SqlFile};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Body of `PUT /v1/templates/{name}`: how the template is made. What is left out is as it was, at first nothing; an empty
/// text or list takes away what was said before.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDefinition {
    /// URL of the database that a refresh reads. Kept sealed, and never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "postgres://reader:secret@db.example/shop?sslmode=require")]
    pub source_url: Option<String>,
    /// URL of an administrator of the server that previews are made on, for extensions that only a superuser may
    /// install. Kept sealed, and never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub admin_url: Option<String>,
    /// Tables whose rows are left out, as patterns of `pg_dump --exclude-table-data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = json!(["public.audit_*"]))]
    pub exclude_table_data: Option<Vec<String>>,
    /// SQL that changes rows nobody may see in a preview; run as a whole before anybody can clone the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "UPDATE customer SET email = id || '@example.invalid'")]
    pub mask: Option<String>,
    /// Queries that have to give true, or a number that is not 0, in their first column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = json!(["SELECT count(*) > 100 FROM product"]))]
    pub checks: Option<Vec<String>>,
    /// How many tables are dumped and read at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 32)]
    pub jobs: Option<u32>,
}

/// Body of `POST /v1/templates/{name}/build`: the files that make the template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildTemplate {
    /// The migrations, run as `pgdb migrate run` does, and written into the ledger.
    #[schema(min_items = 1, max_items = 10000)]
    pub files: Vec<SqlFile>,
    /// A script that is run after all of them, in one transaction. It is no migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub seed: Option<SqlFile>,
    /// Build it even when it was built from the same files.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /v1/templates/{name}/migrate`: the files that the template is to hold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateTemplate {
    /// The migrations, in any order.
    #[schema(min_items = 1, max_items = 10000)]
    pub files: Vec<SqlFile>,
    /// How they are run.
    #[serde(default)]
    pub policy: MigrationPolicy,
}

/// A template as it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// The database.
    #[schema(example = "template_medusa")]
    pub name: String,
    /// The instance that it is on; none on the configured external server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Whether there is such a database.
    pub exists: bool,
    /// Whether the one before it is kept, so that there is a way back.
    pub has_previous: bool,
    /// Whether sessions are let in, so that it can be changed by hand. Then it is closed before the next clone.
    pub open: bool,
    /// Whether a refresh, a rollback and a build are refused.
    pub locked: bool,
    /// Bytes on disk, when it was last prepared.
    pub size_bytes: Option<u64>,
    /// How it is copied: `wal_log`, `file_copy` or `clone`.
    pub strategy: Option<String>,
    /// What copies of it took, each way that was tried: milliseconds, where the newest counts for a half; null for a way
    /// that does not work on its server.
    #[schema(example = json!({"file_copy": 153.2, "wal_log": 281.0}))]
    pub copy_ms: BTreeMap<String, Option<f64>>,
    /// Counts up with every change.
    pub generation: Option<u64>,
    /// When it was last prepared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub prepared_at: Option<Timestamp>,
    /// When it was last refreshed or built.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refreshed_at: Option<Timestamp>,
    /// Where a refresh reads: role, host and database, without the password.
    pub source: Option<String>,
    /// Tables whose rows are left out.
    pub exclude_table_data: Vec<String>,
    /// Whether rows are masked.
    pub masked: bool,
    /// The queries that have to hold.
    pub checks: Vec<String>,
    /// How many tables are dumped and read at the same time.
    pub jobs: u32,
    /// Digest of the files that it was built from.
    pub built_from: Option<String>,
    /// Digest of the migrations that it holds, where they were run by a build or by `migrate`.
    pub migrated_to: Option<String>,
    /// In the answer to a build or `migrate`: it holds the same files already, and so was left as it is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unchanged: bool,
    /// Why it could not be looked at, for instance because its instance is stopped. Then nothing that is said of the
    /// database holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

/// Answer of `DELETE /v1/templates/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeletedTemplate {
    /// What the template was called.
    #[schema(example = "template_shop")]
    pub name: String,
    /// Whether its database is gone. One that was neither prepared nor made here stays.
    pub dropped: bool,
}

/// Answer of `GET /v1/templates`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// All that are known, by server and name.
    pub items: Vec<Template>,
}

/// Query of routes about a template.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TemplateQuery {
    /// The instance that it is on, where it is not the configured server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Whether to wait for the end.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
}

/// Query of routes about a template that make nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TemplateLook {
    /// The instance that it is on, where it is not the configured server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
