//! The answer of `GET /v1/status`, kept until the state changes.

use super::record;
use super::service::{InstanceService, View};
use crate::problem::Problem;
use bytes::Bytes;
use pgdb_api::instances::StatusResponse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Different views kept; clients name a machine in few ways.
const VIEWS: usize = 16;

/// Bodies by view, each with the revision of the state that it shows.
#[derive(Default)]
pub(super) struct Rendered {
    bodies: Mutex<HashMap<View, (u64, Bytes)>>,
}

impl Rendered {
    pub(super) async fn status(&self, service: &InstanceService, view: View) -> Result<Bytes, Problem> {
        let store = &service.world.store;
        // Read before the rows: a change in between makes the body stale at once, never wrongly fresh.
        let revision = store.revision();
        if let Some(body) = self.kept(&view, revision) {
            return Ok(body);
        }
        let instances = store.read(record::all).await?;
        let items = instances.iter().map(|instance| service.to_item(instance, &view)).collect::<Result<_, _>>()?;
        let body =
            serde_json::to_vec(&StatusResponse { items }).map_err(|error| Problem::internal(error.to_string()))?;
        let body = Bytes::from(body);
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if bodies.len() >= VIEWS && !bodies.contains_key(&view) {
            bodies.clear();
        }
        bodies.insert(view, (revision, body.clone()));
        Ok(body)
    }

    fn kept(&self, view: &View, revision: u64) -> Option<Bytes> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept_at, body) = bodies.get(view)?;
        (*kept_at == revision).then(|| body.clone())
    }
}
