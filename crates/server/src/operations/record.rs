//! Operations and steps as rows.

use super::definition::{StepError, StepPlan, StepPolicy};
use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use pgdb_core::operation::OperationState;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use std::time::Duration;

/// One operation with its steps.
#[derive(Debug, Clone)]
pub struct OperationRecord {
    /// Its place in the order of requests, whatever the clock says.
    pub seq: i64,
    /// `op_…`
    pub id: String,
    /// Such as `instance.deploy`.
    pub kind: String,
    /// Such as `instance/mydb`.
    pub subject: String,
    /// What was asked for. Never a secret.
    pub input: Value,
    /// Where it stands.
    pub state: OperationState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed: code and sentence.
    pub error: Option<(String, String)>,
    /// Whether somebody wants it to end early.
    pub cancel_requested: bool,
    /// Its steps in the order they run.
    pub steps: Vec<StepRecord>,
}

impl OperationRecord {
    /// How long its steps may take together. A plan that allows a step a day is not ended after an hour.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.steps.iter().map(|step| step.policy.timeout_ms).fold(0, u64::saturating_add))
    }

    /// The first step begins.
    pub(super) fn begin_first(&mut self, now: Timestamp) {
        self.state = OperationState::Running;
        if let Some(step) = self.steps.first_mut() {
            step.begin(now);
        }
    }
}

/// One step of an operation.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// Unique within the operation.
    pub name: String,
    /// How it is repeated.
    pub policy: StepPolicy,
    /// Where it stands.
    pub state: OperationState,
    /// How often it was begun.
    pub attempt: u32,
    /// How often it failed; a daemon that was killed does not count.
    pub failures: u32,
    /// When it was first begun.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it left for later steps.
    pub output: Value,
    /// Its last error: code and sentence.
    pub error: Option<(String, String)>,
}

impl StepRecord {
    pub(super) fn planned(plan: StepPlan) -> Self {
        Self {
            name: plan.name,
            policy: plan.policy,
            state: OperationState::Pending,
            attempt: 0,
            failures: 0,
            started_at: None,
            finished_at: None,
            output: Value::Null,
            error: None,
        }
    }

    /// It begins, or begins again.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.state = OperationState::Running;
        self.attempt += 1;
        self.started_at.get_or_insert(now);
    }

    pub(super) fn fail(&mut self, error: &StepError) {
        self.error = Some((error.code.clone(), error.message.clone()));
    }
}

const COLUMNS: &str = "seq, id, kind, subject, input, state, created_at, finished_at, error_code, error_message, \
                       cancel_requested";

/// Writes a new operation and its steps; fills in its `seq`.
pub(super) fn insert(connection: &Connection, record: &mut OperationRecord) -> Result<(), Problem> {
    connection.execute(
        "INSERT INTO operations (id, kind, subject, input, state, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            record.id,
            record.kind,
            record.subject,
            record.input.to_string(),
            record.state.as_str(),
            micros(record.created_at)
        ],
    )?;
    record.seq = connection.last_insert_rowid();
    for (position, step) in record.steps.iter().enumerate() {
        let policy = serde_json::to_string(&step.policy).map_err(|error| Problem::internal(error.to_string()))?;
        connection
            .prepare_cached(
                "INSERT INTO steps (operation_seq, position, name, policy, state) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![record.seq, position, step.name, policy, step.state.as_str()])?;
    }
    Ok(())
}

/// Writes where the operation and the named steps stand.
pub(super) fn update(connection: &Connection, record: &OperationRecord, positions: &[usize]) -> Result<(), Problem> {
    let (code, message) = split(record.error.as_ref());
    connection
        .prepare_cached(
            "UPDATE operations SET state = ?2, finished_at = ?3, error_code = ?4, error_message = ?5 WHERE seq = ?1",
        )?
        .execute(params![record.seq, record.state.as_str(), record.finished_at.map(micros), code, message])?;
    for position in positions {
        let step = &record.steps[*position];
        let (code, message) = split(step.error.as_ref());
        let output = (!step.output.is_null()).then(|| step.output.to_string());
        connection
            .prepare_cached(
                "UPDATE steps SET state = ?3, attempt = ?4, failures = ?5, started_at = ?6, finished_at = ?7, \
                 output = ?8, error_code = ?9, error_message = ?10 WHERE operation_seq = ?1 AND position = ?2",
            )?
            .execute(params![
                record.seq,
                position,
                step.state.as_str(),
                step.attempt,
                step.failures,
                step.started_at.map(micros),
                step.finished_at.map(micros),
                output,
                code,
                message
            ])?;
    }
    Ok(())
}

fn split(error: Option<&(String, String)>) -> (Option<&str>, Option<&str>) {
    (error.map(|(code, _)| code.as_str()), error.map(|(_, message)| message.as_str()))
}

/// One operation by its id.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<OperationRecord>, Problem> {
    one(connection, "id = ?1", id)
}

/// The operation at work on a subject, if there is one.
pub fn active_on(connection: &Connection, subject: &str) -> Result<Option<OperationRecord>, Problem> {
    one(connection, "subject = ?1 AND state IN ('pending', 'running', 'undoing')", subject)
}

/// The newest operation on a subject.
pub fn latest_on(connection: &Connection, subject: &str) -> Result<Option<OperationRecord>, Problem> {
    one(connection, "seq = (SELECT max(seq) FROM operations WHERE subject = ?1)", subject)
}

fn one(connection: &Connection, filter: &str, value: &str) -> Result<Option<OperationRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM operations WHERE {filter}");
    let record = connection.prepare_cached(&sql)?.query_row([value], read).optional()?;
    record.map(|record| with_steps(connection, record)).transpose()
}

/// Every operation that has not ended, oldest first.
pub(super) fn unfinished(connection: &Connection) -> Result<Vec<OperationRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM operations WHERE state IN ('pending', 'running', 'undoing') ORDER BY seq");
    let records = connection.prepare(&sql)?.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    records.into_iter().map(|record| with_steps(connection, record)).collect()
}

/// Which operations a page shows; every field narrows it down.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only on this subject.
    pub subject: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this state.
    pub state: Option<OperationState>,
    /// Only older than this id; an unknown id shows nothing.
    pub before: Option<String>,
}

/// A page of operations, newest first.
pub fn page(connection: &Connection, filter: &Filter, limit: u32) -> Result<Vec<OperationRecord>, Problem> {
    let mut clauses = vec!["1 = 1"];
    let mut values: Vec<&str> = Vec::new();
    let mut narrow = |clause: &'static str, value: Option<&'_ str>| {
        if value.is_some() {
            clauses.push(clause);
        }
    };
    narrow("subject = ?", filter.subject.as_deref());
    narrow("kind = ?", filter.kind.as_deref());
    narrow("state = ?", filter.state.map(OperationState::as_str));
    narrow("seq < (SELECT seq FROM operations WHERE id = ?)", filter.before.as_deref());
    values.extend(filter.subject.as_deref());
    values.extend(filter.kind.as_deref());
    values.extend(filter.state.map(OperationState::as_str));
    values.extend(filter.before.as_deref());
    let sql =
        format!("SELECT {COLUMNS} FROM operations WHERE {} ORDER BY seq DESC LIMIT {limit}", clauses.join(" AND "));
    let records = connection
        .prepare_cached(&sql)?
        .query_map(rusqlite::params_from_iter(values), read)?
        .collect::<Result<Vec<_>, _>>()?;
    records.into_iter().map(|record| with_steps(connection, record)).collect()
}

/// Marks an operation as wanted to end early. False when it has ended already or is unknown.
pub(super) fn request_cancel(connection: &Connection, id: &str) -> Result<bool, Problem> {
    let changed = connection.execute(
        "UPDATE operations SET cancel_requested = 1 WHERE id = ?1 AND state IN ('pending', 'running')",
        [id],
    )?;
    Ok(changed == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<OperationRecord> {
    let error: Option<String> = row.get("error_code")?;
    let message: Option<String> = row.get("error_message")?;
    Ok(OperationRecord {
        seq: row.get("seq")?,
        id: row.get("id")?,
        kind: row.get("kind")?,
        subject: row.get("subject")?,
        input: json(&row.get::<_, String>("input")?),
        state: state(&row.get::<_, String>("state")?),
        created_at: from_micros(row.get("created_at")?),
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(from_micros),
        error: error.map(|code| (code, message.unwrap_or_default())),
        cancel_requested: row.get("cancel_requested")?,
        steps: Vec::new(),
    })
}

fn with_steps(connection: &Connection, mut record: OperationRecord) -> Result<OperationRecord, Problem> {
    record.steps = connection
        .prepare_cached(
            "SELECT name, policy, state, attempt, failures, started_at, finished_at, output, error_code, error_message \
             FROM steps WHERE operation_seq = ?1 ORDER BY position",
        )?
        .query_map([record.seq], |row| {
            let code: Option<String> = row.get("error_code")?;
            let message: Option<String> = row.get("error_message")?;
            Ok(StepRecord {
                name: row.get("name")?,
                policy: serde_json::from_str(&row.get::<_, String>("policy")?).unwrap_or_default(),
                state: state(&row.get::<_, String>("state")?),
                attempt: row.get("attempt")?,
                failures: row.get("failures")?,
                started_at: row.get::<_, Option<i64>>("started_at")?.map(from_micros),
                finished_at: row.get::<_, Option<i64>>("finished_at")?.map(from_micros),
                output: row.get::<_, Option<String>>("output")?.map(|text| json(&text)).unwrap_or_default(),
                error: code.map(|code| (code, message.unwrap_or_default())),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(record)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// A word that we do not know can only come from a hand-edited file; it is treated as an ended operation.
fn state(text: &str) -> OperationState {
    OperationState::parse(text).unwrap_or(OperationState::Failed)
}
