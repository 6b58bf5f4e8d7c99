//! The engine with made-up kinds of operations, a real state file and a clock of the test's own.

use super::definition::{OperationKind, Place, StepContext, StepDone, StepError, StepPlan};
use super::{Engine, EngineConfig, NewOperation, Observer, OperationRecord, StepRecord, record};
use crate::problem::Problem;
use crate::store::Store;
use crate::system::SystemEntropy;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pgdb_core::operation::OperationState::{self, Failed, Pending, Succeeded, Undone};
use pgdb_core::time::Clock;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that the test sets.
struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-01-01T00:00:00Z".parse().expect("a time"))))
    }

    fn shift(&self, by: SignedDuration) {
        let mut now = self.0.lock().expect("clock");
        *now = now.checked_add(by).expect("in range");
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("clock")
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }
}

/// Counts what it is told to do; fails where the input says so.
#[derive(Default)]
struct Scripted {
    log: Mutex<Vec<String>>,
    failures: Mutex<HashMap<String, u32>>,
    joinable: bool,
    forward_only: bool,
}

impl Scripted {
    fn log(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }

    fn note(&self, what: String) {
        self.log.lock().expect("log").push(what);
    }
}

#[async_trait]
impl OperationKind for Scripted {
    fn kind(&self) -> &str {
        "test.scripted"
    }

    fn plan(&self, input: &Value) -> Vec<StepPlan> {
        let hours = Duration::from_secs(3600 * input["hours"].as_u64().unwrap_or(0));
        let step = |name| if hours.is_zero() { StepPlan::new(name) } else { StepPlan::new(name).timeout(hours) };
        ["one", "two", "three"].map(step).to_vec()
    }

    fn joinable(&self) -> bool {
        self.joinable
    }

    fn place(&self, input: &Value) -> Place {
        if input["hours"].as_u64().is_some_and(|hours| hours > 1) { Place::Long } else { Place::Usual }
    }

    fn undoes(&self) -> bool {
        !self.forward_only
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        self.note(format!("run {step}"));
        let input = &cx.operation.input;
        if input["wait_in"] == step {
            cx.cancelled.cancelled().await;
            return Err(StepError::lasting("cancelled", "told to stop"));
        }
        assert!(input["panic_in"] != step, "told to panic");
        if input["refuse_in"] == step {
            return Ok(StepDone::commit(|_| Err(Problem::conflict("refused", "the rows were refused"))));
        }
        if input["fail_in"] == step {
            let times = input["times"].as_u64().unwrap_or(u64::MAX);
            let mut failures = self.failures.lock().expect("failures");
            let count = failures.entry(step.to_owned()).or_default();
            *count += 1;
            if u64::from(*count) <= times {
                let message = format!("{step} failed");
                return Err(if input["lasting"] == true {
                    StepError::lasting("scripted", message)
                } else {
                    StepError::passing("scripted", message)
                });
            }
        }
        if step == "two" {
            let earlier: u64 = cx.output("one")?;
            assert_eq!(earlier, 41);
        }
        Ok(StepDone::output(if step == "one" { json!(41) } else { Value::Null }))
    }

    async fn undo(&self, step: &str, _: &StepContext) -> Result<(), StepError> {
        self.note(format!("undo {step}"));
        Ok(())
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
    clock: Arc<ManualClock>,
    kind: Arc<Scripted>,
    engine: Engine,
}

impl Bench {
    fn new(kind: Scripted) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state.db")).expect("a state file");
        let (clock, kind) = (ManualClock::new(), Arc::new(kind));
        let engine = engine(&store, &clock, &kind, vec![]);
        Self { _folder: folder, store, clock, kind, engine }
    }

    async fn start(&self, subject: &str, input: Value) -> Result<super::Started, Problem> {
        self.engine.start(request(subject, input), |_| Ok(())).await
    }

    async fn end_of(&self, input: Value) -> Arc<OperationRecord> {
        let started = self.start("thing/a", input).await.expect("started");
        self.engine.wait(&started.id).await.expect("ended")
    }
}

fn engine(store: &Store, clock: &Arc<ManualClock>, kind: &Arc<Scripted>, observers: Vec<Arc<dyn Observer>>) -> Engine {
    let (clock, kind) = (Arc::clone(clock), Arc::clone(kind));
    Engine::new(store.clone(), clock, Arc::new(SystemEntropy), EngineConfig::default(), vec![kind], observers)
}

fn request(subject: &str, input: Value) -> NewOperation {
    NewOperation { kind: "test.scripted", subject: subject.to_owned(), input }
}

#[tokio::test]
async fn steps_run_in_order_and_see_earlier_outputs() {
    let bench = Bench::new(Scripted::default());
    let ended = bench.end_of(json!({})).await;
    assert_eq!(ended.state, Succeeded);
    assert_eq!(bench.kind.log(), ["run one", "run two", "run three"]);
    assert!(ended.steps.iter().all(|step| step.state == Succeeded && step.attempt == 1));
    let stored = bench.engine.get(&ended.id).await.expect("stored");
    assert_eq!(stored.finished_at, ended.finished_at);
}

#[tokio::test]
async fn a_passing_error_is_tried_again_and_a_lasting_one_is_undone() {
    let bench = Bench::new(Scripted::default());
    let ended = bench.end_of(json!({"fail_in": "two", "times": 2})).await;
    assert_eq!(ended.state, Succeeded);
    assert_eq!((ended.steps[1].attempt, ended.steps[1].failures), (3, 2));

    let ended = bench.end_of(json!({"fail_in": "three", "lasting": true})).await;
    assert_eq!(ended.state, Undone);
    assert_eq!(ended.error, Some(("scripted".to_owned(), "three failed".to_owned())));
    let log = bench.kind.log();
    assert_eq!(log[log.len() - 3..], ["undo three", "undo two", "undo one"]);
}

#[tokio::test]
async fn a_step_that_keeps_failing_gives_up_after_its_tries() {
    let bench = Bench::new(Scripted { forward_only: true, ..Scripted::default() });
    let ended = bench.end_of(json!({"fail_in": "one"})).await;
    assert_eq!((ended.state, ended.steps[0].failures), (Failed, 4));
    assert!(!bench.kind.log().iter().any(|line| line.starts_with("undo")));
}

#[tokio::test]
async fn a_panic_is_a_failure_that_is_taken_back() {
    let bench = Bench::new(Scripted::default());
    let ended = bench.end_of(json!({"panic_in": "two"})).await;
    assert_eq!(ended.state, Undone);
    assert_eq!(ended.error.as_ref().map(|(code, _)| code.as_str()), Some("internal"));
    assert_eq!(bench.kind.log(), ["run one", "run two", "undo two", "undo one"]);
    // Nobody is left at work on the subject.
    assert_eq!(bench.end_of(json!({})).await.state, Succeeded);
}

#[tokio::test]
async fn a_step_whose_rows_are_refused_has_failed_and_the_next_was_never_begun() {
    for forward_only in [false, true] {
        let bench = Bench::new(Scripted { forward_only, ..Scripted::default() });
        let ended = bench.end_of(json!({"refuse_in": "two"})).await;
        assert_eq!(ended.error.as_ref().map(|(code, _)| code.as_str()), Some("refused"));
        let stored = bench.engine.get(&ended.id).await.expect("stored");
        let states: Vec<OperationState> = stored.steps.iter().map(|step| step.state).collect();
        if forward_only {
            assert_eq!((stored.state, states), (Failed, vec![Succeeded, Failed, Pending]));
        } else {
            assert_eq!((stored.state, states), (Undone, vec![Undone, Undone, Pending]));
        }
        assert_eq!((stored.steps[2].attempt, stored.steps[2].started_at), (0, None));
    }
}

#[tokio::test]
async fn a_cancelled_step_of_a_kind_that_goes_forward_has_failed() {
    let bench = Bench::new(Scripted { forward_only: true, ..Scripted::default() });
    let started = bench.start("thing/a", json!({"fail_in": "one", "times": 1})).await.expect("started");
    while bench.kind.log().is_empty() {
        tokio::task::yield_now().await;
    }
    // As the deadline does, in the pause before the second try.
    let active = bench.engine.active_or_ended(&started.id).await.expect("known").expect("active");
    active.cancel.cancel();
    let ended = bench.engine.wait(&started.id).await.expect("ended");
    assert_eq!((ended.state, ended.steps[0].state), (Failed, Failed));
    assert_eq!(ended.error.as_ref().map(|(code, _)| code.as_str()), Some("cancelled"));
}

#[tokio::test]
async fn a_plan_may_take_as_long_as_its_steps_say_whatever_the_deadline() {
    let bench = Bench::new(Scripted::default());
    let config = EngineConfig { deadline: Duration::ZERO, ..EngineConfig::default() };
    let (clock, kind) = (Arc::clone(&bench.clock), Arc::clone(&bench.kind));
    let engine = Engine::new(bench.store.clone(), clock, Arc::new(SystemEntropy), config, vec![kind], vec![]);
    let started = engine.start(request("thing/a", json!({"fail_in": "one", "times": 1})), |_| Ok(())).await;
    let ended = engine.wait(&started.expect("started").id).await.expect("ended");
    assert_eq!((ended.state, &ended.error), (Succeeded, &None));
}

#[tokio::test]
async fn one_operation_per_subject_and_the_same_goal_joins() {
    let bench = Bench::new(Scripted { joinable: true, ..Scripted::default() });
    let waiting = json!({"wait_in": "one"});
    let first = bench.start("thing/a", waiting.clone()).await.expect("started");
    let joined = bench.start("thing/a", waiting.clone()).await.expect("joined");
    assert!(joined.joined && joined.id == first.id && !first.joined);
    let conflict = bench.start("thing/a", json!({})).await.expect_err("another goal");
    assert_eq!((conflict.code, conflict.operation_id.as_deref()), ("operation_conflict", Some(first.id.as_str())));
    let other = bench.start("thing/b", json!({})).await.expect("another subject");
    assert_eq!(bench.engine.wait(&other.id).await.expect("ended").state, Succeeded);

    bench.engine.cancel(&first.id).await.expect("cancelled");
    let ended = bench.engine.wait(&first.id).await.expect("ended");
    assert_eq!(ended.state, Undone);
    let again = bench.engine.cancel(&first.id).await.expect_err("it has ended");
    assert_eq!(again.code, "not_cancellable");
}

#[tokio::test]
async fn what_prepare_refuses_leaves_no_operation() {
    let bench = Bench::new(Scripted::default());
    let refused = bench.engine.start(request("thing/a", json!({})), |connection| {
        connection.execute("INSERT INTO meta VALUES ('half', 'made')", [])?;
        Err(Problem::conflict("no", "no"))
    });
    assert_eq!(refused.await.expect_err("refused").code, "no");
    let left = bench.store.read(|connection| {
        let rows = connection.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0))?;
        Ok((rows, record::page(connection, &record::Filter::default(), 10)?.len()))
    });
    assert_eq!(left.await.expect("read"), (0, 0));
}

#[tokio::test]
async fn a_new_engine_goes_on_where_the_old_one_stopped() {
    let bench = Bench::new(Scripted::default());
    let started = bench.start("thing/a", json!({"wait_in": "two"})).await.expect("started");
    while !bench.kind.log().contains(&"run two".to_owned()) {
        tokio::task::yield_now().await;
    }
    // The old engine is left hanging inside step two, as a killed daemon would be.
    let kind = Arc::new(Scripted::default());
    let engine = engine(&bench.store, &bench.clock, &kind, vec![]);
    bench
        .store
        .write(|connection| Ok(connection.execute("UPDATE operations SET input = '{}'", [])?))
        .await
        .expect("let it pass this time");
    assert_eq!(engine.resume().await.expect("resumed"), 1);
    let ended = engine.wait(&started.id).await.expect("ended");
    assert_eq!(ended.state, Succeeded);
    assert_eq!(kind.log(), ["run two", "run three"]);
    assert_eq!((ended.steps[1].attempt, ended.steps[1].failures), (2, 0));
}

#[tokio::test]
async fn a_clock_that_goes_backwards_changes_no_order_and_forgets_nothing_early() {
    let bench = Bench::new(Scripted::default());
    let first = bench.end_of(json!({"n": 1})).await;
    bench.clock.shift(SignedDuration::from_hours(-24 * 365));
    let second = bench.end_of(json!({"n": 2})).await;
    assert_eq!(second.state, Succeeded);
    let ids = |page: Vec<OperationRecord>| page.into_iter().map(|operation| operation.id).collect::<Vec<_>>();
    let page = bench.store.read(|connection| record::page(connection, &record::Filter::default(), 10)).await;
    assert_eq!(ids(page.expect("read")), [second.id.clone(), first.id.clone()]);
    assert_eq!(bench.engine.forget_old().await.expect("tidied"), 0);
    bench.clock.shift(SignedDuration::from_hours(24 * (365 + 91)));
    assert_eq!(bench.engine.forget_old().await.expect("tidied"), 2);
}

#[tokio::test]
async fn observers_hear_of_every_end_and_a_stopping_engine_refuses() {
    #[derive(Default)]
    struct Ears(Mutex<Vec<String>>);
    impl Observer for Ears {
        fn step_ended(&self, _: &OperationRecord, step: &StepRecord) {
            self.0.lock().expect("ears").push(step.name.clone());
        }
        fn operation_ended(&self, operation: &OperationRecord) {
            self.0.lock().expect("ears").push(operation.state.to_string());
        }
    }
    let bench = Bench::new(Scripted::default());
    let ears = Arc::new(Ears::default());
    let engine = engine(&bench.store, &bench.clock, &bench.kind, vec![Arc::clone(&ears) as Arc<dyn Observer>]);
    let started = engine.start(request("thing/a", json!({})), |_| Ok(())).await.expect("started");
    engine.wait(&started.id).await.expect("ended");
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!(*ears.0.lock().expect("ears"), ["one", "two", "three", "succeeded"]);
    let refused = engine.start(request("thing/b", json!({})), |_| Ok(())).await.expect_err("stopping");
    assert_eq!(refused.code, "shutting_down");
}

#[tokio::test]
async fn twenty_operations_at_once_all_end() {
    let bench = Bench::new(Scripted::default());
    let mut started = Vec::new();
    for number in 0..20 {
        started.push(bench.start(&format!("thing/{number}"), json!({})).await.expect("started"));
    }
    for one in started {
        assert_eq!(bench.engine.wait(&one.id).await.expect("ended").state, Succeeded);
    }
}

#[tokio::test]
async fn operations_that_may_take_a_day_make_no_other_wait() {
    let bench = Bench::new(Scripted::default());
    let mut long = Vec::new();
    for number in 0..20 {
        let input = json!({"hours": 8, "wait_in": "one"});
        long.push(bench.start(&format!("large/{number}"), input).await.expect("started"));
    }
    assert_eq!(bench.end_of(json!({})).await.state, Succeeded);
    let at_work = EngineConfig::default().long_at_once;
    while bench.kind.log().iter().filter(|line| *line == "run one").count() < at_work + 1 {
        tokio::task::yield_now().await;
    }
    for one in &long {
        bench.engine.cancel(&one.id).await.expect("cancelled");
    }
    for one in long {
        assert_eq!(bench.engine.wait(&one.id).await.expect("ended").state, Undone);
    }
}
