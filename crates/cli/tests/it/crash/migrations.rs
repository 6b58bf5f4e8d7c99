//! `migrations.rollout`: a template, its previews and an instance, on an instance of the daemon's own.

use super::driver::Scenario;
use super::previews::{INSTANCE, NO_POOL, Server};
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::{self, assert_nothing_left};
use reqwest::Method;
use serde_json::{Value, json};

const KEY: &str = "public/001_rolled.sql";
/// Fails where it is run a second time.
const FILE: &str = "CREATE TABLE rolled AS SELECT 1 AS n";

pub(super) struct Rollout;

impl Scenario for Rollout {
    const KIND: &'static str = "migrations.rollout";
    const FORWARD_ONLY: bool = true;
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        let server = Server::deploy_prepared(daemon).await;
        for number in [1, 2] {
            daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": number })).await.expect(200);
        }
        server
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        let body = json!({
            "files": [{ "name": KEY, "sql": FILE }],
            "to": { "template_itself": true, "previews": true, "instances": [INSTANCE] },
        });
        (Method::POST, "/v1/migrations?wait=false".to_owned(), Body::Json(body))
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        let id = world::latest_operation(daemon, Self::KIND).expect("an operation");
        let report = daemon.get(&format!("/v1/migrations/{id}")).await.expect(200);
        let items: Vec<&str> = report["items"].as_array().expect("items").iter().filter_map(name).collect();
        assert_eq!(items, ["template_medusa", "medusa_pr_1", "medusa_pr_2", INSTANCE], "{report:#}");
        assert_eq!(report["complete"], true, "{report:#}");
        // Whichever try it was that ran it; the template is an earlier rollout's where that has failed.
        let failed = daemon.get(&format!("/v1/operations?kind={}&state=failed", Self::KIND)).await.expect(200);
        let again = failed["items"].as_array().is_some_and(|items| !items.is_empty());
        for item in report["items"].as_array().expect("items").iter().skip(usize::from(again)) {
            assert_eq!((&item["state"], &item["files"]), (&json!("applied"), &json!([KEY])), "{report:#}");
        }
        // A later preview is of the new template.
        daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 3 })).await.expect(200);
        for db in ["medusa_pr_1", "medusa_pr_2", "medusa_pr_3"] {
            assert_eq!(sql::run(&server.url_of(db), "SELECT count(*) FROM rolled").await, "1", "{db}");
            let applied = "SELECT count(*) FROM pgdb.migrations WHERE outcome = 'applied'";
            assert_eq!(sql::run(&server.url_of(db), applied).await, "1", "{db}");
        }
        assert_eq!(server.run("SELECT count(*) FROM rolled").await, "1");
        daemon.delete("/v1/preview-db/3").await.expect(200);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &Server) {
        panic!("the rollout was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        server.clean_up(daemon).await;
    }
}

fn name(item: &Value) -> Option<&str> {
    item["name"].as_str()
}
