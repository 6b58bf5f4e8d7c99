//! Answers of routes that start an operation: its end, or at once the operation itself.

use super::wire;
use crate::http::error::HttpError;
use crate::http::state::App;
use crate::operations::Started;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// 202 with the operation if the caller does not want to wait; else what `then` makes of its success.
pub(crate) async fn answer<T, F>(app: &App, started: &Started, wait: bool, then: F) -> Result<Response, HttpError>
where
    T: Serialize,
    F: AsyncFnOnce() -> Result<T, HttpError>,
{
    if !wait {
        return accepted(app, started).await;
    }
    app.operations.finish(&started.id).await?;
    Ok(Json(then().await?).into_response())
}

/// 202 with the operation.
pub(crate) async fn accepted(app: &App, started: &Started) -> Result<Response, HttpError> {
    let operation = app.operations.get(&started.id).await?;
    Ok((StatusCode::ACCEPTED, Json(wire(&operation))).into_response())
}
