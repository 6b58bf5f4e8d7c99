//! A second watcher of the same database.

use super::bed::{Bed, LIMIT};
use pgdb_testkit::api::{Api, Body};
use pgdb_testkit::wait;
use reqwest::Method;
use serde_json::Value;
use std::process::{Child, Stdio};

/// Ended when dropped.
pub(super) struct Other {
    child: Child,
    health: Api,
}

impl Other {
    /// Starts it with the bed's environment and what `env` adds.
    pub(super) fn watch(bed: &Bed, env: &[(&str, &str)]) -> Self {
        let port = bed.daemon.first_port() + 11;
        let mut command = bed.command();
        command.env("HEALTH_PORT", port.to_string()).envs(env.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgdb runs");
        Self { child, health: Api::new(port, "none") }
    }

    /// Waits until its readiness is as wanted.
    pub(super) async fn until(&mut self, what: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let health = &self.health;
        let look = || async {
            let answer = health.try_send(Method::GET, "/readiness", Body::None).await.ok()?;
            wanted(answer.status, &answer.json).then_some(answer.json)
        };
        let found = wait::until(LIMIT, what, look).await;
        assert!(self.child.try_wait().expect("looked").is_none(), "it runs still");
        found
    }

    /// Waits until everything is applied.
    pub(super) async fn ready(&mut self) -> Value {
        self.until("the other watcher to be ready", |status, _| status == 200).await
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
