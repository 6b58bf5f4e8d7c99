//! `instance.rotate_password`.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;

pub(super) struct RotatePassword;

pub(super) struct Subject {
    name: String,
    /// With the password from before.
    url: String,
}

impl Scenario for RotatePassword {
    const KIND: &'static str = "instance.rotate_password";
    type Subject = Subject;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Subject {
        let deployed = daemon.deploy_named(name).await;
        Subject { name: name.to_owned(), url: deployed["database_url"].as_str().expect("a URL").to_owned() }
    }

    fn request(&self, subject: &Subject) -> (Method, String, Body) {
        (Method::POST, format!("/v1/db/{}/rotate-password?wait=false", subject.name), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Subject) {
        let item = daemon.item(&subject.name).await;
        let url = item["database_url"].as_str().expect("a URL");
        assert_ne!(url, subject.url, "the password is still the one from before");
        assert_eq!(sql::run(url, "SELECT 1").await, "1");
        let error = sql::login(&subject.url).await.expect_err("the password from before is refused");
        assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{error:?}");
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, subject: &Subject) {
        assert_eq!(daemon.item(&subject.name).await["database_url"], subject.url);
        assert_eq!(sql::run(&subject.url, "SELECT 1").await, "1");
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Subject) {
        daemon.destroy(&subject.name).await;
        assert_nothing_left(daemon, &[]).await;
    }
}
