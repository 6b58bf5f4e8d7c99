//! Migrations brought to many databases of the daemon at once.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A file with SQL.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlFile {
    /// What it is called: `schema/filename`, or without folders as a ConfigMap's key, `schema_filename`.
    #[schema(example = "app/001_create_tables.sql")]
    pub name: String,
    /// What is in it.
    pub sql: String,
}

/// The largest body with files, in bytes.
pub const FILES_LIMIT: usize = 64 << 20;

/// How files are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationPolicy {
    /// What to make of a file that comes before one that was already run: `allow`, `warn` or `refuse`.
    #[schema(pattern = "^(allow|warn|refuse)$")]
    pub out_of_order: String,
    /// Whether files that were changed after they were run are run again; otherwise nothing runs.
    pub rerun_changed: bool,
    /// Whether to go on after a failure, with the next file and the next database.
    pub keep_going: bool,
    /// How long a statement waits for a lock before the file is tried again, in milliseconds.
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub lock_timeout_ms: u64,
}

impl Default for MigrationPolicy {
    fn default() -> Self {
        Self { out_of_order: "warn".to_owned(), rerun_changed: false, keep_going: false, lock_timeout_ms: 5000 }
    }
}

/// Body of `POST /v1/migrations`: which files, and which databases.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The files, in any order.
    #[schema(min_items = 1, max_items = 10000)]
    pub files: Vec<SqlFile>,
    /// The databases.
    pub to: RolloutTargets,
    /// How the files are run.
    #[serde(default)]
    pub policy: MigrationPolicy,
    /// Databases that are worked on at the same time.
    #[serde(default = "at_once")]
    #[schema(default = 4, minimum = 1, maximum = 64)]
    pub at_once: u32,
    /// Only tell what would be run.
    #[serde(default)]
    pub dry_run: bool,
}

fn at_once() -> u32 {
    4
}

/// Which databases. At least one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutTargets {
    /// The template of `template_itself`, `previews` and `numbers`; the configured one when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "template_shop")]
    pub template: Option<String>,
    /// The instance that this template is on; the configured server when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub on: Option<String>,
    /// The template itself, so that later previews have it too. A copy of it is migrated and takes its place.
    pub template_itself: bool,
    /// Every preview of the template.
    pub previews: bool,
    /// The previews of these pull requests.
    pub numbers: Vec<u64>,
    /// The databases of these instances.
    pub instances: Vec<String>,
    /// The databases of all instances, but for the one that previews are made on where no server was configured.
    pub all_instances: bool,
}

/// What became of the databases.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// The operation; none for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation: Option<String>,
    /// Whether every database holds all that the files say. False while the operation is under way.
    pub complete: bool,
    /// Whether the operation has ended.
    pub ended: bool,
    /// The databases that are done: the template, then previews, then instances, each by name.
    pub items: Vec<RolloutItem>,
}

/// What became of one database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RolloutItem {
    /// `template`, `preview` or `instance`.
    pub kind: String,
    /// What it is called: the template, the preview's database, the instance.
    pub name: String,
    /// The pull request's number, of a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub number: Option<u64>,
    /// The instance that it is on; none on the configured external server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub on: Option<String>,
    /// `applied`, `up_to_date`, `failed`, in a dry run `pending`, and `gone` when it was deleted meanwhile.
    pub state: String,
    /// Files that were run, in order; in a dry run those that would be.
    pub files: Vec<String>,
    /// What the server said meanwhile, at most 100 lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed: the file, the place with the line itself, and what PostgreSQL said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

/// Query of `POST /v1/migrations`.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RolloutQuery {
    /// With false: answer 202 with the operation at once.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub wait: bool,
}

fn yes() -> bool {
    true
}
