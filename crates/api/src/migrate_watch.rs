//! What `pgdb migrate watch` answers on its health port.

use serde::{Deserialize, Serialize};

/// `GET /readiness`: 200 when PostgreSQL answers and every known migration is applied, else 503.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchReadiness {
    /// Whether all is well.
    pub ready: bool,
    /// Why not, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the migrations come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why what is known of the source may not be the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_trouble: Option<String>,
    /// How many migrations are known.
    pub files: usize,
    /// How many of them the database holds as they are now.
    pub applied: usize,
    /// The one that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// What is wrong with single files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FileProblem>,
}

/// A migration that failed, or cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    /// `schema/filename`, or what else the file is called.
    pub file: String,
    /// What is wrong. The log has the line it is in, and what the server said besides.
    pub error: String,
}
