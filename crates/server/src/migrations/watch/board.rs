//! What the watcher shows: for the probes, for Prometheus, and for the log.

use crate::migrations::sources::Snapshot;
use pgdb_api::migrate_watch::{FileProblem, WatchReadiness};
use pgdb_pg::migrate::report::{FileReport, RunReport};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The state of affairs.
pub(super) struct Board {
    state: Mutex<State>,
    registry: Registry,
    runs: Family<OutcomeLabels, Counter>,
    seconds: Histogram,
    ready: Gauge,
    files: Gauge,
    applied: Gauge,
    problems: Gauge,
}

#[derive(Debug, Default)]
struct State {
    source: Option<String>,
    source_trouble: Option<String>,
    /// What is waited for.
    waiting: Option<String>,
    /// Whether the last look has found everything applied.
    complete: bool,
    files: usize,
    applied: usize,
    running: Option<String>,
    /// Names that cannot be used.
    refused: Vec<FileProblem>,
    /// Files that failed, or that hold no SQL.
    failed: Vec<FileProblem>,
}

impl Board {
    pub(super) fn new() -> Self {
        let mut board = Self {
            state: Mutex::default(),
            registry: Registry::with_prefix("pgdb_migrate"),
            runs: Family::default(),
            seconds: Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]),
            ready: Gauge::default(),
            files: Gauge::default(),
            applied: Gauge::default(),
            problems: Gauge::default(),
        };
        let registry = &mut board.registry;
        registry.register("runs", "Files that were run", board.runs.clone());
        registry.register("run_seconds", "How long a file took", board.seconds.clone());
        registry.register("ready", "1 when every known migration is applied", board.ready.clone());
        registry.register("files", "Migrations that are known", board.files.clone());
        registry.register("applied", "Migrations that the database holds", board.applied.clone());
        registry.register("problems", "Migrations that failed or cannot be run", board.problems.clone());
        registry.register("build", "Which pgdb this is", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        board
    }

    /// Something has to come first. True when that is news.
    pub(super) fn waiting(&self, reason: &str) -> bool {
        let mut state = self.state();
        state.running = None;
        state.complete = false;
        let news = state.waiting.as_deref() != Some(reason);
        state.waiting = Some(reason.to_owned());
        news
    }

    /// The sources can be read again, and hold what they held.
    pub(super) fn readable_again(&self) {
        self.state().waiting = None;
    }

    /// There are other files than before.
    pub(super) fn found(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        state.complete = false;
        state.source = Some(snapshot.place.clone());
        state.files = snapshot.files.len();
        state.applied = 0;
        state.failed.clear();
        let problem = |error: &String| FileProblem { file: snapshot.place.clone(), error: error.clone() };
        state.refused = snapshot.refused.iter().map(problem).collect();
    }

    /// Whether what is known of the files may be old. True when that is news.
    pub(super) fn source_trouble(&self, trouble: Option<&str>) -> bool {
        let mut state = self.state();
        let news = state.source_trouble.as_deref() != trouble;
        state.source_trouble = trouble.map(str::to_owned);
        news
    }

    /// The files were compared with the ledger.
    pub(super) fn planned(&self, to_run: usize) {
        let mut state = self.state();
        state.waiting = None;
        state.applied = state.files.saturating_sub(to_run);
        if to_run > 0 {
            state.complete = false;
            state.failed.clear();
        }
    }

    /// A file begins.
    pub(super) fn started(&self, key: &str) {
        self.state().running = Some(key.to_owned());
    }

    /// A file has ended.
    pub(super) fn ended(&self, report: &FileReport) {
        let outcome = if report.applied { "applied" } else { "failed" };
        self.runs.get_or_create(&OutcomeLabels { outcome }).inc();
        #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 ms")]
        self.seconds.observe(report.took_ms as f64 / 1000.0);
        let mut state = self.state();
        state.running = None;
        if report.applied {
            state.applied += 1;
        }
        if let Some(failure) = &report.failure {
            state.failed.push(FileProblem { file: report.key.clone(), error: failure.in_one_line() });
        }
    }

    /// A run has ended. True when every known migration is applied now and was not before.
    pub(super) fn finished(&self, report: &RunReport) -> bool {
        let mut state = self.state();
        let before = state.complete && report.applied == 0;
        state.waiting = None;
        state.running = None;
        state.applied = report.up_to_date_before + report.applied;
        let problem = |file: &pgdb_pg::migrate::report::RefusedFile| FileProblem {
            file: file.key.clone(),
            error: file.why.clone(),
        };
        state.failed.retain(|failed| report.files.iter().any(|file| file.key == failed.file));
        state.failed.extend(report.refused.iter().map(problem));
        state.complete = report.is_complete() && state.refused.is_empty();
        state.complete && !before
    }

    /// What `/readiness` says, but for whether PostgreSQL answers at this moment.
    pub(super) fn readiness(&self) -> WatchReadiness {
        let state = self.state();
        let problems: Vec<FileProblem> = state.refused.iter().chain(&state.failed).cloned().collect();
        let reason = state.reason(&problems);
        WatchReadiness {
            ready: reason.is_none(),
            reason,
            source: state.source.clone(),
            source_trouble: state.source_trouble.clone(),
            files: state.files,
            applied: state.applied,
            running: state.running.clone(),
            problems,
        }
    }

    /// The text that Prometheus reads.
    pub(super) fn metrics(&self) -> String {
        let now = self.readiness();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.ready.set(i64::from(now.ready));
        self.files.set(count(now.files));
        self.applied.set(count(now.applied));
        self.problems.set(count(now.problems.len()));
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reason(&self, problems: &[FileProblem]) -> Option<String> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if let Some(key) = &self.running {
            return Some(format!("{key} is running; {} of {} migrations are applied", self.applied, self.files));
        }
        match problems {
            [] => {}
            [one] => return Some(format!("{}: {}", one.file, one.error)),
            [first, rest @ ..] => {
                return Some(format!("{}: {} (and {} more)", first.file, first.error, rest.len()));
            }
        }
        (!self.complete).then(|| format!("{} of {} migrations are applied", self.applied, self.files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::settings::Origin;
    use pgdb_core::migration::file::File;
    use pgdb_core::migration::key::Key;
    use pgdb_pg::migrate::report::Failure;

    fn snapshot(refused: &[&str]) -> Snapshot {
        let file = |key: &str| File::new(Key::parse(key).expect("a key"), Vec::new());
        Snapshot {
            origin: Origin::Mount,
            place: "/mount".to_owned(),
            files: vec![file("a/1.sql"), file("a/2.sql")],
            refused: refused.iter().map(|text| (*text).to_owned()).collect(),
            trouble: None,
        }
    }

    fn ended(key: &str, error: Option<&str>) -> FileReport {
        let failure = error.map(|message| Failure {
            key: key.to_owned(),
            line: Some(3),
            column: Some(7),
            message: message.to_owned(),
            sqlstate: Some("42P01".to_owned()),
            detail: Some("what is in a row".to_owned()),
            ..Failure::default()
        });
        FileReport {
            key: key.to_owned(),
            applied: error.is_none(),
            took_ms: 3,
            retries: 0,
            notices: Vec::new(),
            locks: Vec::new(),
            failure,
        }
    }

    #[test]
    fn ready_is_when_all_is_applied_and_not_before() {
        let board = Board::new();
        assert!(!board.readiness().ready);
        assert!(board.waiting("PostgreSQL is not there") && !board.waiting("PostgreSQL is not there"));
        assert_eq!(board.readiness().reason.as_deref(), Some("PostgreSQL is not there"));
        board.found(&snapshot(&[]));
        board.planned(2);
        assert_eq!(board.readiness().reason.as_deref(), Some("0 of 2 migrations are applied"));
        board.started("a/1.sql");
        assert!(board.readiness().reason.is_some_and(|reason| reason.starts_with("a/1.sql is running")));
        board.ended(&ended("a/1.sql", None));
        board.ended(&ended("a/2.sql", None));
        assert!(!board.readiness().ready);
        let all = RunReport { applied: 2, ..RunReport::default() };
        assert!(board.finished(&all), "news");
        assert!(board.readiness().ready);
        let nothing = RunReport { up_to_date_before: 2, ..RunReport::default() };
        assert!(!board.finished(&nothing), "no news");
        board.found(&snapshot(&[]));
        assert!(!board.readiness().ready, "other files are not applied until that was seen");
        assert!(board.metrics().contains("pgdb_migrate_runs_total{outcome=\"applied\"} 2"));
    }

    #[test]
    fn a_failure_is_told_without_what_rows_hold() {
        let board = Board::new();
        board.found(&snapshot(&[]));
        board.planned(2);
        let failed = ended("a/1.sql", Some("relation \"x\" does not exist"));
        board.ended(&failed);
        board.ended(&ended("a/2.sql", None));
        let report = RunReport { files: vec![failed], applied: 1, failed: 1, ..RunReport::default() };
        assert!(!board.finished(&report));
        let readiness = board.readiness();
        let reason = readiness.reason.expect("a reason");
        assert_eq!(reason, "a/1.sql: line 3, column 7: relation \"x\" does not exist (SQLSTATE 42P01)");
        assert_eq!((readiness.applied, readiness.problems.len()), (1, 1));
    }

    #[test]
    fn a_name_that_cannot_be_used_keeps_it_from_being_ready() {
        let board = Board::new();
        board.found(&snapshot(&["'x' is not used as a migration: there is a path in its name"]));
        assert!(!board.finished(&RunReport { up_to_date_before: 2, ..RunReport::default() }));
        assert!(!board.readiness().ready);
    }
}
