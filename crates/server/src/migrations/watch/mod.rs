//! The watcher: keeps a database up to date with what its sources hold.
//!
//! A loop that reads all content, compares it with the ledger in the database, and runs what is due. It does so when the
//! content of a source is another than before, when PostgreSQL comes back, some time after a failure, and every half
//! minute all the same, for the target may be changed under it too. So no change is lost, however many come at once, and
//! the newest content is what counts. What something says about a source is no more than a reason to read it: only other
//! content makes the watcher try again at once what has failed.

mod board;
mod changes;
mod health;
mod settled;

use crate::config::listen::Listen;
use crate::http::serve::{Servers, bind_all};
use crate::migrations::settings::Settings;
use crate::migrations::sources::{Snapshot, Sources, Unread};
use anyhow::Context as _;
use board::Board;
use changes::Changes;
use health::{Probed, describe, router};
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::plan;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::report::{Event, RefusedFile, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{PgError, presence};
use settled::{POLICY, Settled};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks at the database when nothing says that one is needed.
const LOOK: Duration = Duration::from_secs(30);
/// The same while another migrator has other files: it may have been told the right ones.
const DISPUTED: Duration = Duration::from_secs(5);
/// A source that is being changed is read again after this long.
const BUSY: Duration = Duration::from_millis(100);
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
    let changes = Changes::of(sources.folders(), sources.writes());
    let watcher = Watcher {
        login: settings.database,
        sources,
        changes,
        board,
        alarm,
        last: None,
        settled: Settled::default(),
        disputed: Vec::new(),
    };
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
    settled: Settled,
    /// Files that were in dispute at the last look.
    disputed: Vec<RefusedFile>,
}

/// What a look has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Everything is applied.
    Complete,
    /// PostgreSQL is not there, or another migrator is at work.
    Absent,
    /// PostgreSQL went away in the middle of a file.
    Lost,
    /// Files failed.
    Failed,
    /// Another migrator has other files.
    Disputed,
}

impl Watcher {
    async fn run(mut self, stop: &CancellationToken) {
        let mut tries = Tries::default();
        // When the database is to be looked at, and what the last look at it came to.
        let mut due = Instant::now();
        let mut last = Look::Absent;
        // Whether the sources could be read last time.
        let mut readable = true;
        while !stop.is_cancelled() {
            let read = tokio::select! {
                () = stop.cancelled() => break,
                read = self.sources.read() => read,
            };
            let wake = match read {
                Ok(snapshot) => {
                    let other = self.take(&snapshot);
                    if other {
                        tries = Tries::default();
                    }
                    // Of what has failed before nothing is known that is new.
                    let again = !readable && !matches!(last, Look::Failed | Look::Lost);
                    if other || again || Instant::now() >= due {
                        last = self.until_stopped(&snapshot, stop).await;
                        due = Instant::now() + tries.pause_after(last);
                    } else if !readable {
                        self.board.readable_again();
                    }
                    (readable, tries.unread) = (true, 0);
                    due
                }
                Err(why) => {
                    readable = false;
                    self.wait_for(match &why {
                        Unread::Nothing(why) | Unread::Busy(why) => why,
                    });
                    Instant::now() + if let Unread::Busy(_) = why { BUSY } else { tries.pause_unread() }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.sources.api_changed() => {}
                () = self.changes.next() => {}
                // While something else is wrong that is known.
                () = self.alarm.notified() => if last == Look::Complete { due = Instant::now() },
                () = time::sleep_until(wake) => {}
            }
        }
    }

    /// Takes in what the sources hold. True when that is other content than before.
    fn take(&mut self, snapshot: &Snapshot) -> bool {
        if self.board.source_trouble(snapshot.trouble.as_deref())
            && let Some(trouble) = &snapshot.trouble
        {
            tracing::warn!(source = snapshot.place, "the source may have changed unseen: {trouble}");
        }
        if self.last.as_ref().is_some_and(|last| last.same_content(snapshot)) {
            return false;
        }
        tracing::info!(source = snapshot.place, migrations = snapshot.files.len(), "migrations were read");
        for refused in &snapshot.refused {
            tracing::error!(source = snapshot.place, "{refused}");
        }
        self.board.found(snapshot);
        self.last = Some(snapshot.clone());
        true
    }

    /// One look; when the program is to end it gets some time to come to its end. What is cut off then is rolled back.
    async fn until_stopped(&mut self, snapshot: &Snapshot, stop: &CancellationToken) -> Look {
        let late = async {
            stop.cancelled().await;
            time::sleep(GRACE).await;
        };
        tokio::select! {
            look = self.look(snapshot) => look,
            () = late => {
                tracing::warn!("what was under way did not end in time and is rolled back");
                Look::Absent
            }
        }
    }

    /// Runs what is due.
    async fn look(&mut self, snapshot: &Snapshot) -> Look {
        match self.migrate(snapshot).await {
            Ok((report, true)) if !report.is_complete() => {
                let last = report.files.last().map_or("the first file", |file| file.key.as_str());
                self.wait_for(&format!("the connection to PostgreSQL was lost during {last}"));
                Look::Lost
            }
            Ok((report, _)) => self.concluded(report),
            Err(error) => self.wait_for(&error),
        }
    }

    /// Runs what is due. True when the session was lost meanwhile; an error is a reason to wait.
    async fn migrate(&mut self, snapshot: &Snapshot) -> Result<(RunReport, bool), String> {
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(error) => return Err(format!("PostgreSQL does not answer: {}", describe(&error))),
        };
        let options =
            Options { policy: POLICY, keep_going: true, wait: TURN, ..Options::new(env!("CARGO_PKG_VERSION")) };
        let outcome = async {
            let files = self.undisputed(&session, &snapshot.files).await?;
            let report = run(&mut session, &files, &options, &mut |event| self.heard(&event)).await?;
            if report.applied > 0 {
                let applied: HashSet<&str> =
                    report.files.iter().filter(|file| file.applied).map(|file| file.key.as_str()).collect();
                files
                    .iter()
                    .filter(|file| applied.contains(file.key.as_str()))
                    .for_each(|file| self.settled.applied(file));
                // Of a session that was lost meanwhile the report tells.
                let _ = self.see_ledger(&session, &files).await;
            }
            Ok(report)
        };
        let outcome = outcome.await;
        let lost = session.client().is_closed();
        session.close().await;
        let outcome = outcome.map(|report| (report, lost));
        outcome.map_err(|error: MigrateError| match &error {
            MigrateError::Postgres(cause) if !matches!(cause, PgError::UnfitLedger { .. }) => {
                format!("PostgreSQL does not answer: {}", describe(cause))
            }
            _ => error.to_string(),
        })
    }

    /// The files but for those in whose place another migrator has applied something else, which are told.
    async fn undisputed(&mut self, session: &Session, files: &[File]) -> Result<Vec<File>, MigrateError> {
        let disputed = self.see_ledger(session, files).await?;
        for file in disputed.iter().filter(|file| !self.disputed.contains(file)) {
            tracing::error!(key = file.key, "is not run again: {}", file.why);
        }
        let is_ours = |file: &&File| disputed.iter().all(|other| other.key != file.key.as_str());
        let ours = files.iter().filter(is_ours).cloned().collect();
        self.disputed = disputed;
        Ok(ours)
    }

    /// Takes in what the ledger says; gives the files that are in dispute.
    async fn see_ledger(&mut self, session: &Session, files: &[File]) -> Result<Vec<RefusedFile>, MigrateError> {
        let rows = ledger::read(session.client()).await?.unwrap_or_default();
        let plan = plan(files, &rows, POLICY);
        self.settled.note(&plan);
        Ok(self.settled.disputed(&plan))
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

    fn concluded(&self, mut report: RunReport) -> Look {
        for refused in &report.refused {
            tracing::error!(key = refused.key, "cannot be run: {}", refused.why);
        }
        let others_are_well = report.is_complete();
        report.refused.extend(self.disputed.iter().cloned());
        let news = self.board.finished(&report);
        if !others_are_well {
            return Look::Failed;
        }
        if !self.disputed.is_empty() {
            return Look::Disputed;
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
    unread: u32,
    absent: u32,
    lost: u32,
    failed: u32,
}

impl Tries {
    /// How long to wait after a look at the database.
    fn pause_after(&mut self, look: Look) -> Duration {
        match look {
            Look::Complete => {
                *self = Self::default();
                LOOK
            }
            Look::Disputed => DISPUTED,
            // A server that was brought down by a file is absent for a while: that does not make it the first time.
            Look::Absent => grown(&mut self.absent, ABSENT),
            Look::Lost => grown(&mut self.lost, LOST),
            Look::Failed => grown(&mut self.failed, FAILED),
        }
    }

    /// How long to wait when there is nothing to read.
    fn pause_unread(&mut self) -> Duration {
        grown(&mut self.unread, ABSENT)
    }
}

fn grown(count: &mut u32, (first, longest): (Duration, Duration)) -> Duration {
    let pause = first.saturating_mul(1 << (*count).min(16)).min(longest);
    *count += 1;
    pause
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
