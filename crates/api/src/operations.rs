//! Durable operations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One operation with its steps.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// `op_…`; ids of later operations sort after earlier ones.
    pub id: String,
    /// Such as `instance.deploy`.
    pub kind: String,
    /// What it changes, such as `instance/mydb`.
    pub subject: String,
    /// `pending`, `running`, `succeeded`, `failed`, `undoing` or `undone`.
    pub state: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<OperationError>,
    /// Its steps in the order they run.
    pub steps: Vec<Step>,
}

/// Why an operation or a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationError {
    /// A stable code in snake_case.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

/// One step of an operation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Unique within the operation.
    pub name: String,
    /// As an operation's state.
    pub state: String,
    /// How often it was begun; 0 before the first time.
    pub attempt: u32,
    /// When it was first begun.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What it found out for later steps. Never a secret.
    #[schema(value_type = Object, nullable = true)]
    pub output: Option<serde_json::Value>,
    /// Its last error.
    pub error: Option<OperationError>,
}

/// `GET /v1/operations`: a page, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OperationsPage {
    /// The operations.
    pub items: Vec<Operation>,
    /// Give this as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Query of `GET /v1/operations`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct OperationsQuery {
    /// Only operations on this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only operations of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only operations in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only operations older than this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// 1 to 500; 50 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// `GET /v1/operations/kinds`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KindsResponse {
    /// The kinds, by name.
    pub items: Vec<String>,
}

/// One event of `GET /v1/operations/{id}/events`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OperationEvent {
    /// `operation`.
    pub event: String,
    /// The whole operation as it stands, as JSON; see the schema `Operation`.
    pub data: String,
}
