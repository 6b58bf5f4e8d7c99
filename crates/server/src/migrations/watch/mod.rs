//! The watcher: keeps a database up to date with what its sources hold.
//!
//! A loop without memory of what happened: it reads all content, compares it with the ledger in the database, and runs
//! what is due. It does so when something says that a source changed, when PostgreSQL comes back, after a failure, and
//! every half minute all the same, for the target may be changed under it too. So no change is lost, however many come
//! at once, and the newest content is what counts.

mod board;
mod changes;
mod health;

use crate::config::listen::Listen;
use crate::http::serve::{Servers, bind_all};
use crate::migrations::settings::Settings;
use crate::migrations::sources::{Snapshot, Sources};
use anyhow::Context as _;
use board::Board;
use changes::Changes;
use health::{Probed, describe, router};
use pgdb_core::migration::plan::{Changed, OutOfOrder, Policy};
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::{Event, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{PgError, presence};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Between two looks when nothing says that one is needed.
const LOOK: Duration = Duration::from_secs(30);
/// How long to wait for another migrator before that is told and tried again.
const TURN: Duration = Duration::from_secs(10);
/// What is under way may come to its end when the program is to end; Kubernetes gives 30 seconds in all.
const GRACE: Duration = Duration::from_secs(20);
/// After this long without a source or PostgreSQL it is tried again; each time later, up to the second.
const ABSENT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The same after the session was lost in the middle of a file, which may be the file's own doing.
const LOST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The same for files that failed.
const FAILED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Watches until `stop` is cancelled. The health port is open before anything else happens.
pub async fn watch(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let board = Arc::new(Board::new());
    board.waiting("the watcher is starting");
    let alarm = Arc::new(Notify::new());
    let probed = Probed::new(Arc::clone(&board), Arc::clone(&alarm), &settings.database);
    let sockets = bind_all(&[Listen::Everywhere(settings.health_port)]).context("the health port (HEALTH_PORT)")?;
    let mut servers = Servers::start(sockets, &router(probed), None)?;
    tracing::info!(
        target_database = %settings.database.db, server = %settings.database.target, health_port = settings.health_port,
        "pgdb {} watches migrations", env!("CARGO_PKG_VERSION")
    );
    let sources = Sources::open(&settings);
    let changes = Changes::of(sources.folders());
    let watcher = Watcher { login: settings.database, sources, changes, board, alarm, last: None };
    let outcome = tokio::select! {
        () = watcher.run(&stop) => Ok(()),
        error = servers.failed() => Err(error),
    };
    servers.stop(Duration::from_secs(1));
    servers.ended().await;
    tracing::info!("the watcher has ended");
    outcome
}

struct Watcher {
    login: Login,
    sources: Sources,
    changes: Changes,
    board: Arc<Board>,
    /// Woken when a probe finds that PostgreSQL does not answer.
    alarm: Arc<Notify>,
    /// What was compared with the ledger last.
    last: Option<Snapshot>,
}

/// What a look has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Everything is applied.
    Complete,
    /// A source or PostgreSQL is not there.
    Absent,
    /// PostgreSQL went away in the middle of a file.
    Lost,
    /// Files failed.
    Failed,
}

impl Watcher {
    async fn run(mut self, stop: &CancellationToken) {
        let mut tries = Tries::default();
        while !stop.is_cancelled() {
            let pause = tries.pause_after(self.until_stopped(stop).await);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.sources.api_changed() => {}
                () = self.changes.next() => {}
                () = self.alarm.notified() => {}
                () = time::sleep(pause) => continue,
            }
            // Something happened: what failed may work now.
            tries = Tries::default();
        }
    }

    /// One look; when the program is to end it gets some time to come to its end. What is cut off then is rolled back.
    async fn until_stopped(&mut self, stop: &CancellationToken) -> Look {
        let late = async {
            stop.cancelled().await;
            time::sleep(GRACE).await;
        };
        tokio::select! {
            look = self.look() => look,
            () = late => {
                tracing::warn!("what was under way did not end in time and is rolled back");
                Look::Absent
            }
        }
    }

    /// Reads everything, and runs what is due.
    async fn look(&mut self) -> Look {
        let snapshot = match self.sources.read().await {
            Ok(snapshot) => snapshot,
            Err(reason) => return self.wait_for(&reason),
        };
        if self.board.source_trouble(snapshot.trouble.as_deref())
            && let Some(trouble) = &snapshot.trouble
        {
            tracing::warn!(source = snapshot.place, "the source may have changed unseen: {trouble}");
        }
        if self.last.as_ref().is_none_or(|last| !last.same_content(&snapshot)) {
            tracing::info!(source = snapshot.place, migrations = snapshot.files.len(), "migrations were read");
            for refused in &snapshot.refused {
                tracing::error!(source = snapshot.place, "{refused}");
            }
            self.board.found(&snapshot);
            self.last = Some(snapshot.clone());
        }
        match self.migrate(&snapshot).await {
            Ok((report, true)) if !report.is_complete() => {
                let last = report.files.last().map_or("the first file", |file| file.key.as_str());
                self.wait_for(&format!("the connection to PostgreSQL was lost during {last}"));
                Look::Lost
            }
            Ok((report, _)) => self.concluded(&report),
            Err(error) => self.wait_for(&error),
        }
    }

    /// Runs what is due. True when the session was lost meanwhile; an error is a reason to wait.
    async fn migrate(&self, snapshot: &Snapshot) -> Result<(RunReport, bool), String> {
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(error) => return Err(format!("PostgreSQL does not answer: {}", describe(&error))),
        };
        let options = Options {
            policy: Policy { out_of_order: OutOfOrder::Allow, changed: Changed::Rerun },
            keep_going: true,
            wait: TURN,
            ..Options::new(env!("CARGO_PKG_VERSION"))
        };
        let outcome = run(&mut session, &snapshot.files, &options, &mut |event| self.heard(&event)).await;
        let lost = session.client().is_closed();
        session.close().await;
        let outcome = outcome.map(|report| (report, lost));
        outcome.map_err(|error| match &error {
            MigrateError::Postgres(cause) => {
                format!("PostgreSQL does not answer: {}", describe(cause))
            }
            _ => error.to_string(),
        })
    }

    /// Logs in, to a database made for it if there is none.
    async fn session(&self) -> Result<Session, PgError> {
        match Session::open(&self.login).await {
            Err(error) if presence::is_missing(&error) => {}
            opened => return opened,
        }
        if presence::create(&self.login).await? {
            tracing::info!(database = %self.login.db, "there was no such database; it was made");
        }
        Session::open(&self.login).await
    }

    fn heard(&self, event: &Event<'_>) {
        match event {
            Event::Waiting { holder } => {
                self.wait_for(&format!("another migrator is at work on this database ({holder})"));
            }
            Event::Planned { to_run, .. } => self.board.planned(*to_run),
            Event::Started { key, number, of } => {
                tracing::debug!(key, number, of, "running");
                self.board.started(key);
            }
            Event::Notice { key, notice } => {
                tracing::info!(key, severity = notice.severity, "PostgreSQL: {}", notice.message);
            }
            Event::Retrying { key, attempt, pause, failure } => {
                tracing::warn!(key, attempt, ?pause, "a lock could not be had, trying again: {}", failure.message);
            }
            Event::Warning { key, message } => tracing::warn!(key, "{message}"),
            Event::Ended(report) => {
                self.board.ended(report);
                match &report.failure {
                    None => tracing::info!(key = report.key, took_ms = report.took_ms, "applied"),
                    Some(failure) => tracing::error!("migration failed, going on with the next one\n{failure}"),
                }
            }
            _ => {}
        }
    }

    fn concluded(&self, report: &RunReport) -> Look {
        for refused in &report.refused {
            tracing::error!(key = refused.key, "cannot be run: {}", refused.why);
        }
        let news = self.board.finished(report);
        if !report.is_complete() {
            return Look::Failed;
        }
        if news {
            tracing::info!(applied = report.applied, took_ms = report.took_ms, "✅ All migrations applied");
        }
        Look::Complete
    }

    fn wait_for(&self, reason: &str) -> Look {
        if self.board.waiting(reason) {
            tracing::warn!("waiting: {reason}");
        }
        Look::Absent
    }
}

/// How often things have gone wrong in a row.
#[derive(Debug, Default)]
struct Tries {
    absent: u32,
    lost: u32,
    failed: u32,
}

impl Tries {
    /// How long to wait after a look.
    fn pause_after(&mut self, look: Look) -> Duration {
        let (count, (first, longest)) = match look {
            Look::Complete => {
                *self = Self::default();
                return LOOK;
            }
            // A server that was brought down by a file is absent for a while: that does not make it the first time.
            Look::Absent => (&mut self.absent, ABSENT),
            Look::Lost => (&mut self.lost, LOST),
            Look::Failed => (&mut self.failed, FAILED),
        };
        let pause = first.saturating_mul(1 << (*count).min(16)).min(longest);
        *count += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_all_is_well() {
        let mut tries = Tries::default();
        let pauses: Vec<u128> = (0..6).map(|_| tries.pause_after(Look::Absent).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 2000, 2000]);
        for expected in [500, 1000, 2000] {
            assert_eq!(tries.pause_after(Look::Lost).as_millis(), expected);
            tries.pause_after(Look::Absent);
        }
        assert_eq!(tries.pause_after(Look::Failed), Duration::from_secs(10));
        assert_eq!(tries.pause_after(Look::Complete), LOOK);
        assert_eq!(tries.pause_after(Look::Absent).as_millis(), 200);
    }
}
