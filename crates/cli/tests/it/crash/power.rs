//! `instance.start`, `instance.stop` and `instance.restart`.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;

pub(super) struct Start;
pub(super) struct Stop;
pub(super) struct Restart;

/// A database with a note in it.
pub(super) struct Noted {
    name: String,
    url: String,
    /// When its server was first started.
    started_at: String,
}

const STARTED_AT: &str = "SELECT pg_postmaster_start_time()";

impl Noted {
    async fn deploy(daemon: &Daemon, name: &str) -> Self {
        let deployed = daemon.deploy_named(name).await;
        let url = deployed["database_url"].as_str().expect("a URL").to_owned();
        sql::run(&url, &format!("CREATE TABLE note (text text); INSERT INTO note VALUES ('{name}')")).await;
        let started_at = sql::run(&url, STARTED_AT).await;
        Self { name: name.to_owned(), url, started_at }
    }

    async fn check_runs_anew(&self, daemon: &Daemon) {
        // The same URL: neither the port nor the password has changed.
        assert_eq!(sql::run(&self.url, "SELECT text FROM note").await, self.name);
        assert_ne!(sql::run(&self.url, STARTED_AT).await, self.started_at, "the server is still the one from before");
        let item = daemon.wait_state(&self.name, "running").await;
        assert_eq!(item["database_url"], self.url);
        assert_nothing_left(daemon, &[&self.name]).await;
    }

    async fn clean_up(self, daemon: &Daemon) {
        daemon.destroy(&self.name).await;
        assert_nothing_left(daemon, &[]).await;
    }

    fn request(&self, verb: &str) -> (Method, String, Body) {
        (Method::POST, format!("/v1/db/{}/{verb}?wait=false", self.name), Body::None)
    }
}

fn never_taken_back(subject: &Noted) -> ! {
    panic!("what was asked of {} was taken back, which it never is", subject.name);
}

impl Scenario for Start {
    const KIND: &'static str = "instance.start";
    const FORWARD_ONLY: bool = true;
    type Subject = Noted;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Noted {
        let noted = Noted::deploy(daemon, name).await;
        daemon.poke(&format!("/v1/db/{name}/stop")).await.expect(200);
        noted
    }

    fn request(&self, subject: &Noted) -> (Method, String, Body) {
        subject.request("start")
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Noted) {
        subject.check_runs_anew(daemon).await;
    }

    async fn check_taken_back(&self, _: &Daemon, subject: &Noted) {
        never_taken_back(subject);
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Noted) {
        subject.clean_up(daemon).await;
    }
}

impl Scenario for Stop {
    const KIND: &'static str = "instance.stop";
    const FORWARD_ONLY: bool = true;
    type Subject = Noted;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Noted {
        Noted::deploy(daemon, name).await
    }

    fn request(&self, subject: &Noted) -> (Method, String, Body) {
        subject.request("stop")
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Noted) {
        daemon.wait_state(&subject.name, "stopped").await;
        assert!(sql::login(&subject.url).await.is_err(), "a stopped server lets people in");
        assert!(pgdb_testkit::processes::all_in(daemon.data_dir()).is_empty(), "a stopped server has processes");
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, subject: &Noted) {
        never_taken_back(subject);
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Noted) {
        // Nothing was lost by stopping.
        daemon.poke(&format!("/v1/db/{}/start", subject.name)).await.expect(200);
        subject.check_runs_anew(daemon).await;
        subject.clean_up(daemon).await;
    }
}

impl Scenario for Restart {
    const KIND: &'static str = "instance.restart";
    const FORWARD_ONLY: bool = true;
    type Subject = Noted;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Noted {
        Noted::deploy(daemon, name).await
    }

    fn request(&self, subject: &Noted) -> (Method, String, Body) {
        subject.request("restart")
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Noted) {
        subject.check_runs_anew(daemon).await;
    }

    async fn check_taken_back(&self, _: &Daemon, subject: &Noted) {
        never_taken_back(subject);
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Noted) {
        subject.clean_up(daemon).await;
    }
}
