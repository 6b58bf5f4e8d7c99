//! Drives a scenario through every fault.

use jiff::Timestamp;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::on::On;
use pgdb_testkit::world;
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// Where a daemon is killed around a step.
const KILLS: [&str; 3] = ["before", "unrecorded", "after"];
/// Where a daemon is killed around taking a step back.
const UNDO_KILLS: [&str; 3] = ["undo-before", "undo-unrecorded", "undo-after"];

/// One kind of operation, and what has to hold of it.
pub(super) trait Scenario {
    /// The kind, as the daemon calls it.
    const KIND: &'static str;
    /// Whether a failure is not taken back, but mended by asking again.
    const FORWARD_ONLY: bool = false;
    /// Whether `setup` and `clean_up` run operations of this kind, and so need a daemon without faults.
    const NEEDS_ITSELF: bool = false;
    /// What the daemon's environment holds beside the usual.
    const ENV: &'static [(&'static str, &'static str)] = &[];
    /// What the operation is about, and what is needed to check it.
    type Subject;

    /// Makes what the operation is about. `name` is new in every case.
    async fn setup(&self, daemon: &Daemon, name: &str) -> Self::Subject;

    /// The request that begins the operation and does not wait for it.
    fn request(&self, subject: &Self::Subject) -> (Method, String, Body);

    /// Checks the world after the operation has succeeded.
    async fn check_done(&self, daemon: &Daemon, subject: &Self::Subject);

    /// Checks the world after the operation was taken back. Not asked of a kind that only goes forward.
    async fn check_taken_back(&self, daemon: &Daemon, subject: &Self::Subject);

    /// Removes what `setup` and the operation have made, and checks that nothing is left.
    async fn clean_up(&self, daemon: &Daemon, subject: Self::Subject);
}

/// How a case has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// No fault stops it.
    Succeeds,
    /// The daemon is killed; the next one brings the operation to its goal.
    DiesAndSucceeds,
    /// The daemon is killed, and the next one at the same point again; the third brings the operation to its goal.
    DiesTwiceAndSucceeds,
    /// A step fails for good.
    Fails,
    /// A step fails for good and the daemon is killed while that is taken back; the next one finishes taking it back.
    FailsAndDies,
}

/// Runs a scenario without a fault, then with every fault at every step.
pub(super) async fn drive<S: Scenario>(scenario: S) {
    drive_on(&On::Process, scenario).await;
}

/// The same with databases on a runtime. In containers, where a case takes seconds, each step is killed where it hurts most,
/// inside of it and before its end is written down; `PGDB_TEST_EVERY_FAULT=1` drives them through all.
pub(super) async fn drive_on<S: Scenario>(on: &On, scenario: S) {
    let mut daemon = on.prepare(BINARY);
    for (name, value) in S::ENV {
        daemon.set_env(name, value);
    }
    let every_fault = matches!(on, On::Process) || std::env::var_os("PGDB_TEST_EVERY_FAULT").is_some();
    let mut runner = Runner { scenario: &scenario, daemon: &mut daemon, cases: 0 };
    runner.daemon.up(&[]).await;
    let clean = runner.case(&[], Course::Succeeds).await;
    let steps: Vec<Step> = clean["steps"].as_array().expect("steps").iter().map(Step::read).collect();
    assert!(!steps.is_empty(), "{} has no steps", S::KIND);
    for step in &steps {
        for point in step.kill_points(every_fault) {
            runner.case(&[step.fault::<S>(&point)], Course::DiesAndSucceeds).await;
        }
        if every_fault {
            runner.case(&[step.fault::<S>("unrecorded")], Course::DiesTwiceAndSucceeds).await;
        }
        runner.case(&[step.fault::<S>("error")], Course::Fails).await;
    }
    if !S::FORWARD_ONLY {
        // From the last step's failure everything is taken back; from each other's, what it has only begun.
        let last = steps.last().expect("there are steps");
        for step in &steps {
            for point in UNDO_KILLS.into_iter().filter(|point| every_fault || *point == "undo-unrecorded") {
                runner.case(&[last.fault::<S>("error"), step.fault::<S>(point)], Course::FailsAndDies).await;
            }
        }
        for step in steps[..steps.len() - 1].iter().filter(|_| every_fault) {
            let faults = [step.fault::<S>("error"), step.fault::<S>("undo-unrecorded")];
            runner.case(&faults, Course::FailsAndDies).await;
        }
    }
    for point in ["error-once", "repeat"] {
        let faults: Vec<String> = steps.iter().map(|step| step.fault::<S>(point)).collect();
        let operation = runner.case(&faults, Course::Succeeds).await;
        if point == "error-once" {
            for step in operation["steps"].as_array().expect("steps") {
                assert_eq!(step["attempt"], 2, "{step} was not tried a second time");
            }
        }
    }
    eprintln!("{}: {} cases", S::KIND, runner.cases);
}

/// A step of the run without a fault.
struct Step {
    name: String,
    took_ms: i64,
}

impl Step {
    fn read(step: &Value) -> Self {
        let at = |field: &str| -> Timestamp { step[field].as_str().expect(field).parse().expect(field) };
        let took_ms = at("finished_at").as_millisecond() - at("started_at").as_millisecond();
        Self { name: step["name"].as_str().expect("a name").to_owned(), took_ms }
    }

    fn fault<S: Scenario>(&self, point: &str) -> String {
        format!("{}/{}/{point}", S::KIND, self.name)
    }

    /// Before, right after it has begun, half-way, before its end is written down, and after; or half-way and before its
    /// end is written down alone.
    fn kill_points(&self, all: bool) -> Vec<String> {
        let inside = if all { BTreeSet::from([1, self.took_ms / 2]) } else { BTreeSet::from([self.took_ms / 2]) };
        let inside = inside.into_iter().filter(|ms| *ms > 0).map(|ms| format!("inside@{ms}"));
        KILLS
            .iter()
            .filter(|point| all || **point == "unrecorded")
            .map(|point| (*point).to_owned())
            .chain(inside)
            .collect()
    }
}

struct Runner<'a, S: Scenario> {
    scenario: &'a S,
    daemon: &'a mut Daemon,
    cases: u32,
}

impl<S: Scenario> Runner<'_, S> {
    /// Runs one case in a world that is empty before and after, and returns the operation.
    async fn case(&mut self, faults: &[String], course: Course) -> Value {
        self.cases += 1;
        let faults = faults.join(",");
        eprintln!("case {}: {course:?} {faults}", self.cases);
        let name = format!("case-{}", self.cases);
        let subject = if S::NEEDS_ITSELF {
            let subject = self.scenario.setup(self.daemon, &name).await;
            self.daemon.crash_and_restart(&[("PGDB_FAULTS", &faults)]).await;
            subject
        } else {
            self.daemon.crash_and_restart(&[("PGDB_FAULTS", &faults)]).await;
            self.scenario.setup(self.daemon, &name).await
        };
        let id = self.begin(&subject, course, &faults).await;
        let operation = self.daemon.wait_operation(&id).await;
        let state = operation["state"].as_str().unwrap_or_default();
        match course {
            Course::Succeeds | Course::DiesAndSucceeds | Course::DiesTwiceAndSucceeds => {
                assert_eq!(state, "succeeded", "{operation:#}");
                self.scenario.check_done(self.daemon, &subject).await;
            }
            Course::Fails if S::FORWARD_ONLY => {
                assert_eq!(state, "failed", "{operation:#}");
                assert_eq!(operation["error"]["code"], "injected", "{operation:#}");
                self.daemon.crash_and_restart(&[]).await;
                self.ask_again(&subject).await;
            }
            Course::Fails => {
                assert_eq!(state, "undone", "{operation:#}");
                assert_eq!(operation["error"]["code"], "injected", "{operation:#}");
                self.scenario.check_taken_back(self.daemon, &subject).await;
            }
            Course::FailsAndDies => {
                assert_eq!(state, "undone", "{operation:#}");
                self.scenario.check_taken_back(self.daemon, &subject).await;
                if faults.ends_with("undo-unrecorded") {
                    self.ask_again(&subject).await;
                }
            }
        }
        if S::NEEDS_ITSELF {
            self.daemon.crash_and_restart(&[]).await;
        }
        self.scenario.clean_up(self.daemon, subject).await;
        operation
    }

    /// Sends the request, lives through the daemon's death if there is to be one, and returns the operation's id.
    async fn begin(&mut self, subject: &S::Subject, course: Course, faults: &str) -> String {
        let earlier = world::latest_operation(self.daemon, S::KIND);
        let (method, path, body) = self.scenario.request(subject);
        let answer = self.daemon.try_send(method, &path, body).await;
        let deaths = match course {
            Course::Succeeds | Course::Fails => 0,
            Course::DiesAndSucceeds | Course::FailsAndDies => 1,
            Course::DiesTwiceAndSucceeds => 2,
        };
        if deaths == 0 {
            answer.expect("the daemon answers").expect(202);
        }
        for death in 1..=deaths {
            // It may be killed before it has answered, and the next one before it is ready.
            let ended = self.daemon.ended().await;
            assert_eq!(ended.signal(), Some(9), "the daemon was not killed by the fault but ended with {ended}");
            if death < deaths {
                self.daemon.spawn(&[("PGDB_FAULTS", faults)]);
            } else {
                self.daemon.up(&[]).await;
            }
        }
        let id = world::latest_operation(self.daemon, S::KIND).expect("the operation was written down");
        assert_ne!(Some(&id), earlier.as_ref(), "the operation was not written down");
        id
    }

    async fn ask_again(&mut self, subject: &S::Subject) {
        let (method, path, body) = self.scenario.request(subject);
        let answer = self.daemon.send(method, &path, body).await;
        // What the daemon goes on with by itself may be done already.
        if answer.status != 200 {
            let begun = answer.expect(202);
            let operation = self.daemon.wait_operation(begun["id"].as_str().expect("an id")).await;
            assert_eq!(operation["state"], "succeeded", "{operation:#}");
        }
        self.scenario.check_done(self.daemon, subject).await;
    }
}
