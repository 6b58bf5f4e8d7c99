//! `instance.deploy`.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::{Expected, assert_nothing_left, assert_only};
use reqwest::Method;
use serde_json::json;

/// A new database.
pub(super) struct Deploy;

/// A database of data that an earlier destroy kept.
pub(super) struct DeployFromVolume;

pub(super) struct FromVolume {
    name: String,
    volume: String,
}

const KIND: &str = "instance.deploy";

impl Scenario for Deploy {
    const KIND: &'static str = KIND;
    type Subject = String;

    async fn setup(&self, _: &Daemon, name: &str) -> String {
        name.to_owned()
    }

    fn request(&self, name: &String) -> (Method, String, Body) {
        (Method::POST, "/v1/deploy?wait=false".to_owned(), Body::Json(json!({ "name": name })))
    }

    async fn check_done(&self, daemon: &Daemon, name: &String) {
        let item = daemon.item(name).await;
        assert_eq!(item["state"], "running", "{item:#}");
        let url = item["database_url"].as_str().expect("a URL");
        let whoami = sql::run(url, "SELECT current_user || '@' || current_database()").await;
        assert_eq!(whoami, format!("{}@{}", item["user"].as_str().expect("user"), item["db"].as_str().expect("db")));
        sql::run(url, "CREATE TABLE mine (id integer PRIMARY KEY); CREATE SCHEMA mine; SELECT 1").await;
        let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database \
                         WHERE datname NOT IN ('postgres', 'template0', 'template1')";
        assert_eq!(sql::run(url, databases).await, item["db"].as_str().expect("db"));
        assert_nothing_left(daemon, &[name]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, name: &String) {
        daemon.get(&format!("/v1/db/{name}")).await.refused(404);
        assert_nothing_left(daemon, &[]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, name: String) {
        if !daemon.status().await.is_empty() {
            daemon.destroy(&name).await;
        }
        assert_nothing_left(daemon, &[]).await;
    }
}

impl Scenario for DeployFromVolume {
    const KIND: &'static str = KIND;
    const NEEDS_ITSELF: bool = true;
    type Subject = FromVolume;

    async fn setup(&self, daemon: &Daemon, name: &str) -> FromVolume {
        // Under another name than the deploy's, so that the two cannot be mixed up.
        let first = format!("{name}-first");
        let deployed = daemon.deploy_named(&first).await;
        let url = deployed["database_url"].as_str().expect("a URL");
        sql::run(url, &format!("CREATE TABLE kept (note text); INSERT INTO kept VALUES ('{name}')")).await;
        let answer = daemon.delete(&format!("/v1/db/{first}?keep_data=true")).await.expect(200);
        let volume = answer["volume_name"].as_str().expect("the kept volume's name").to_owned();
        FromVolume { name: name.to_owned(), volume }
    }

    fn request(&self, subject: &FromVolume) -> (Method, String, Body) {
        let body = json!({ "name": subject.name, "from_volume": subject.volume });
        (Method::POST, "/v1/deploy?wait=false".to_owned(), Body::Json(body))
    }

    async fn check_done(&self, daemon: &Daemon, subject: &FromVolume) {
        let item = daemon.item(&subject.name).await;
        assert_eq!(item["state"], "running", "{item:#}");
        let url = item["database_url"].as_str().expect("a URL");
        assert_eq!(sql::run(url, "SELECT note FROM kept").await, subject.name);
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, subject: &FromVolume) {
        daemon.get(&format!("/v1/db/{}", subject.name)).await.refused(404);
        assert_only(daemon, Expected { instances: &[], volumes: &[&subject.volume] }).await;
    }

    async fn clean_up(&self, daemon: &Daemon, subject: FromVolume) {
        if daemon.status().await.is_empty() {
            // What was taken back can be taken into use again, with everything that is in it.
            daemon.deploy(json!({ "name": subject.name, "from_volume": subject.volume })).await;
            self.check_done(daemon, &subject).await;
        }
        daemon.destroy(&subject.name).await;
        assert_nothing_left(daemon, &[]).await;
    }
}
