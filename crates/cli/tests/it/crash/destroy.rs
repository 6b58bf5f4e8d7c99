//! `instance.destroy`, with and without keeping the data, and of a server that previews are on.

use super::driver::Scenario;
use super::previews::{INSTANCE, NO_POOL, Server, all_rows};
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::{Expected, assert_nothing_left, assert_only};
use reqwest::Method;
use serde_json::json;

pub(super) struct Destroy {
    pub(super) keep_data: bool,
}

impl Scenario for Destroy {
    const KIND: &'static str = "instance.destroy";
    const FORWARD_ONLY: bool = true;
    type Subject = String;

    async fn setup(&self, daemon: &Daemon, name: &str) -> String {
        let deployed = daemon.deploy_named(name).await;
        let url = deployed["database_url"].as_str().expect("a URL");
        sql::run(url, &format!("CREATE TABLE kept (note text); INSERT INTO kept VALUES ('{name}')")).await;
        name.to_owned()
    }

    fn request(&self, name: &String) -> (Method, String, Body) {
        (Method::DELETE, format!("/v1/db/{name}?wait=false&keep_data={}", self.keep_data), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, name: &String) {
        daemon.get(&format!("/v1/db/{name}")).await.refused(404);
        let volume = format!("pgdb-{name}");
        let volumes: &[&str] = if self.keep_data { &[&volume] } else { &[] };
        assert_only(daemon, Expected { instances: &[], volumes }).await;
    }

    async fn check_taken_back(&self, _: &Daemon, name: &String) {
        panic!("the destroy of {name} was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, name: String) {
        if self.keep_data {
            let deployed = daemon.deploy(json!({ "name": name, "from_volume": format!("pgdb-{name}") })).await;
            let url = deployed["database_url"].as_str().expect("a URL");
            assert_eq!(sql::run(url, "SELECT note FROM kept").await, name);
            // The rest is for a daemon whose destroys may have faults: it has to end all the same.
            daemon.destroy(&name).await;
        }
        assert_nothing_left(daemon, &[]).await;
    }
}

/// The server of a preview and its template goes, and with it what is known of them.
pub(super) struct DestroyWithPreviews;

impl Scenario for DestroyWithPreviews {
    const KIND: &'static str = "instance.destroy";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    const FORWARD_ONLY: bool = true;
    type Subject = ();

    async fn setup(&self, daemon: &Daemon, _: &str) {
        Server::deploy_prepared(daemon).await;
        daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
        assert_eq!(all_rows(daemon), 3, "the preview, the template and the server");
    }

    fn request(&self, (): &()) -> (Method, String, Body) {
        (Method::DELETE, format!("/v1/db/{INSTANCE}?wait=false"), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, (): &()) {
        daemon.get(&format!("/v1/db/{INSTANCE}")).await.refused(404);
        assert_eq!(all_rows(daemon), 0, "ghosts are left");
        assert_nothing_left(daemon, &[]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, (): &()) {
        panic!("the destroy of a server of previews was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, (): ()) {
        assert_nothing_left(daemon, &[]).await;
    }
}
