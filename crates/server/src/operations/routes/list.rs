//! `GET /v1/operations`.

use super::wire;
use crate::http::error::HttpError;
use crate::http::extract::QueryParams;
use crate::http::state::App;
use crate::operations::record::{self, Filter};
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use pgdb_api::operations::{OperationsPage, OperationsQuery};
use pgdb_core::operation::OperationState;

const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 500;

/// Operations, newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", params(OperationsQuery),
    responses((status = 200, body = OperationsPage))
)]
pub(super) async fn list_operations(
    State(app): State<App>,
    QueryParams(query): QueryParams<OperationsQuery>,
) -> Result<Json<OperationsPage>, HttpError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        let message = format!("'limit' is {limit}; it has to be from 1 to {LONGEST_PAGE}");
        return Err(Problem::invalid("invalid_value", message).into());
    }
    let state = query.state.map(|word| OperationState::parse(&word).ok_or_else(unknown_state)).transpose()?;
    let filter = Filter { subject: query.subject, kind: query.kind, state, before: query.before };
    // One more than asked for tells whether there is a next page.
    let mut found = app.store.read(move |connection| record::page(connection, &filter, limit + 1)).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|operation| operation.id.clone());
    Ok(Json(OperationsPage { items: found.iter().map(wire).collect(), next }))
}

fn unknown_state() -> Problem {
    let states: Vec<&str> = OperationState::ALL.iter().map(|state| state.as_str()).collect();
    Problem::invalid("invalid_value", format!("'state' has to be one of: {}", states.join(", ")))
}
