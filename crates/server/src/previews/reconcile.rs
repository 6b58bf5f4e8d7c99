//! Keeps previews as they should be: the warm pool filled, what has expired deleted.
//!
//! It takes no input but the rows, does nothing when they are as they should be, and runs on events (an operation's
//! end, the next expiry) as well as on a slow tick, because an event can be missed.

use super::orphans::Treatment;
use super::pool::fills_of;
use super::record::{self, PreviewRecord, PreviewState};
use super::service::PreviewService;
use super::steps::POOL_FILL;
use super::templates;
use super::world::PreviewWorld;
use crate::operations::{Engine, Observer, OperationRecord, StepRecord};
use crate::problem::Problem;
use pgdb_core::operation::OperationState;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The slow tick.
const TICK: Duration = Duration::from_secs(30);
/// Between two looks for orphans.
const ORPHANS_EVERY_MS: u64 = 600_000;
/// The pool is not filled while somebody waits for an ensure, and for this long after.
const QUIET: Duration = Duration::from_millis(150);
/// But it is after this long, however busy it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches over previews. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    pub(super) world: Arc<PreviewWorld>,
    pub(super) engine: Engine,
    pub(super) service: PreviewService,
    stopping: CancellationToken,
}

impl Keeper {
    /// A keeper that is not at work yet.
    pub fn new(service: PreviewService, engine: Engine) -> Self {
        Self { world: Arc::clone(&service.world), engine, service, stopping: CancellationToken::new() }
    }

    /// Ends the watching.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Watches until [`Self::stop`].
    pub async fn run(self) {
        let mut orphans_ms = None;
        loop {
            let now_ms = self.world.clock.monotonic_ms();
            if orphans_ms.is_none_or(|last| now_ms.saturating_sub(last) >= ORPHANS_EVERY_MS) {
                orphans_ms = Some(now_ms);
                if let Err(problem) = self.treat_orphans().await {
                    tracing::warn!(%problem, "orphans could not be looked for; trying again later");
                }
            }
            if let Err(problem) = self.sweep().await {
                tracing::warn!(%problem, "expired previews could not be deleted; trying again at the next tick");
            }
            if let Err(problem) = self.settle().await {
                tracing::warn!(%problem, "what was left half done could not be looked for; trying again later");
            }
            if let Err(problem) = self.forget_gone().await {
                tracing::warn!(%problem, "instances that are gone could not be forgotten; trying again later");
            }
            if let Err(problem) = self.keep_pools().await {
                tracing::warn!(%problem, "the pool could not be kept; trying again at the next tick");
            }
            let pause = self.pause().await;
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = self.world.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = self.quiet() => {}
            }
        }
    }

    /// Until the next expiry or the end of a rest, at most a tick.
    async fn pause(&self) -> Duration {
        let now = self.world.clock.now();
        let next = self.world.store.read(record::next_expiry).await.unwrap_or_default();
        let left = next.map(|at| at.duration_since(now).unsigned_abs());
        let due = next.is_some_and(|at| at <= now);
        let rest = self.world.rests.next_in(self.world.clock.monotonic_ms()).map(Duration::from_millis);
        // What is due and still there could not be deleted; its rest or the tick tries again.
        let left = left.filter(|_| !due).into_iter().chain(rest).min();
        left.map_or(TICK, |left| left.min(TICK)).max(Duration::from_millis(10))
    }

    /// Returns once nobody waits for an ensure.
    async fn quiet(&self) {
        let calm = async {
            loop {
                let before = self.world.ensures.load(Ordering::Relaxed);
                tokio::time::sleep(QUIET).await;
                let waiting = self.world.waiting.load(Ordering::Relaxed);
                if waiting == 0 && self.world.ensures.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        // However busy it is, an empty pool does not fill itself.
        let _ = tokio::time::timeout(PATIENCE, calm).await;
    }

    /// Whether the configuration protects a preview, or what was begun on it failed a moment ago.
    fn is_left_alone(&self, preview: &PreviewRecord) -> bool {
        let rests = !self.world.rests.over(&preview.subject(), self.world.clock.monotonic_ms());
        rests || self.world.config.settings.is_protected(&preview.db)
    }

    /// Deletes previews whose time is over, a few at a time, never a protected one.
    pub async fn sweep(&self) -> Result<(), Problem> {
        let (now, at_most) = (self.world.clock.now(), self.world.config.sweep_max);
        let expired = self.world.store.read(move |connection| record::expired(connection, now, at_most)).await?;
        for preview in expired {
            if self.is_left_alone(&preview) {
                continue;
            }
            tracing::info!(preview = %preview.db, "its time is over; deleting it");
            if let Err(problem) = self.service.delete_expired(&preview).await {
                tracing::warn!(preview = %preview.db, %problem, "an expired preview could not be deleted");
            }
        }
        Ok(())
    }

    /// Treats orphans as configured, on every server that previews were ever made on.
    async fn treat_orphans(&self) -> Result<(), Problem> {
        let servers = self.world.store.read(templates::names).await?;
        let servers: BTreeSet<String> = servers.into_iter().map(|(target, _)| target).collect();
        for target in servers {
            let Some(server) = self.world.server_of(&target).await? else { continue };
            let found = match self.orphans(&server, Treatment::Apply(self.world.config.orphans)).await {
                Ok(found) => found,
                Err(problem) => {
                    tracing::warn!(target, %problem, "orphans could not be looked for; trying again later");
                    continue;
                }
            };
            for orphan in found.iter().filter(|orphan| orphan.action == "reported") {
                tracing::warn!(orphan = %orphan.name, kind = %orphan.kind, "{}; see `pgdb preview gc --dry-run`", orphan.message);
            }
        }
        Ok(())
    }

    /// Goes on with deletes that have failed, and tells of previews whose operation ended without making them.
    async fn settle(&self) -> Result<(), Problem> {
        for preview in self.world.store.read(record::unsettled).await? {
            if self.is_left_alone(&preview) {
                continue;
            }
            let done = match preview.state {
                PreviewState::Deleting => self.service.delete_again(&preview).await,
                _ => self.service.give_up(&preview).await,
            };
            match done {
                // Somebody is at it.
                Err(problem) if matches!(problem.code, "operation_conflict" | "preview_busy") => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Forgets what an operation has written down of a server that a destroy had taken away under it.
    async fn forget_gone(&self) -> Result<(), Problem> {
        for target in self.world.store.read(templates::gone_targets).await? {
            tracing::info!(target, "forgetting the previews of an instance that is gone");
            self.world.store.write(move |connection| templates::forget_target(connection, &target)).await?;
        }
        Ok(())
    }

    async fn keep_pools(&self) -> Result<(), Problem> {
        let templates = self.world.store.read(templates::all).await?;
        let busy = self.engine.unfinished_inputs().await?;
        for template in templates {
            if let Err(problem) = self.keep_pool(&template, &busy).await {
                tracing::warn!(template = template.name, %problem, "its pool could not be kept; trying again later");
            }
        }
        Ok(())
    }
}

/// Hears of operations' ends.
pub struct Nudge(pub Arc<PreviewWorld>);

impl Observer for Nudge {
    fn step_ended(&self, _: &OperationRecord, _: &StepRecord) {}

    fn operation_ended(&self, operation: &OperationRecord) {
        let what = match operation.kind.as_str() {
            POOL_FILL => {
                let text = |field: &str| operation.input[field].as_str().unwrap_or_default().to_owned();
                fills_of(&text("target"), &text("template"))
            }
            _ => operation.subject.clone(),
        };
        if operation.state == OperationState::Succeeded {
            self.0.rests.succeeded(&what);
        } else {
            self.0.rests.failed(&what, self.0.clock.monotonic_ms());
        }
        if ["preview/", "pool/", "template/", "instance/"].iter().any(|prefix| operation.subject.starts_with(prefix)) {
            self.0.changed.notify_one();
        }
    }
}
