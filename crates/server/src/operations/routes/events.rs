//! `GET /v1/operations/{id}/events`.

use super::wire;
use crate::http::error::HttpError;
use crate::http::extract::PathParams;
use crate::http::state::App;
use crate::operations::OperationRecord;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use pgdb_api::operations::OperationEvent;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An operation as it changes, as server-sent events: `event: operation`, `data:` the operation. Ends with its end.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations",
    params(("id" = String, Path, description = "`op_…`")),
    responses((status = 200, body = OperationEvent, content_type = "text/event-stream"))
)]
pub(super) async fn operation_events(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, HttpError> {
    let snapshots = app.operations.follow(&id).await?;
    Ok(Sse::new(events(snapshots, app.shutdown.clone())).keep_alive(KeepAlive::default()))
}

fn events(
    snapshots: watch::Receiver<Arc<OperationRecord>>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some((snapshots, true)), move |state| {
        let shutdown = shutdown.clone();
        async move {
            let (mut snapshots, first) = state?;
            if !first {
                tokio::select! {
                    changed = snapshots.changed() => changed.ok()?,
                    () = shutdown.cancelled() => return None,
                }
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let event = Event::default().event("operation").json_data(wire(&snapshot)).ok()?;
            let rest = (!snapshot.state.is_final()).then_some((snapshots, false));
            Some((Ok(event), rest))
        }
    })
}
