//! `preview.ensure`, `preview.delete`, `preview.reset`, `preview.pool_fill`, `preview.pool_drop`, `template.prepare`, on
//! an instance of the daemon's own.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;
use serde_json::{Value, json};

/// The instance that previews are made on where nobody names a server.
pub(super) const INSTANCE: &str = "previews";
/// Nothing is made that was not asked for.
pub(super) const NO_POOL: &[(&str, &str)] = &[("PGDB_PREVIEW_POOL_MAX", "0")];
/// Databases and roles of previews.
const NAMES: &str = "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
    SELECT datname AS name FROM pg_database WHERE datname LIKE 'medusa\\_pr\\_%'
    UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'medusa\\_pr\\_%') all_names";

/// The instance's superuser, in a database of it.
pub(super) struct Server {
    pub(super) url: String,
    db: String,
}

impl Server {
    /// An instance with a template that holds something.
    async fn deploy(daemon: &Daemon) -> Self {
        let deployed = daemon.deploy(json!({ "name": INSTANCE, "superuser": true })).await;
        let text = |field: &str| deployed[field].as_str().expect(field).to_owned();
        let server = Self { url: text("database_url"), db: text("db") };
        server.run("CREATE ROLE zane_operator").await;
        server.run("CREATE DATABASE template_medusa OWNER zane_operator").await;
        let fill =
            "CREATE ROLE template_medusa_owner NOLOGIN; CREATE TABLE stock AS SELECT n FROM generate_series(1, 50) n;
                    ALTER TABLE stock OWNER TO template_medusa_owner";
        sql::run(&server.url_of("template_medusa"), fill).await;
        server
    }

    /// The same, with the template prepared.
    pub(super) async fn deploy_prepared(daemon: &Daemon) -> Self {
        let server = Self::deploy(daemon).await;
        daemon.poke("/v1/previews/-/prepare").await.expect(200);
        server
    }

    pub(super) fn url_of(&self, db: &str) -> String {
        self.url.replace(&format!("/{}?", self.db), &format!("/{db}?"))
    }

    pub(super) async fn run(&self, statements: &str) -> String {
        sql::run(&self.url, statements).await
    }

    /// That there are these databases and roles and no others.
    async fn holds(&self, names: &str) {
        assert_eq!(self.run(NAMES).await, names);
    }

    /// That a preview can be used, and by its own role alone.
    async fn check_preview(&self, daemon: &Daemon, number: u64) {
        let shown = daemon.get(&format!("/v1/previews/-/{number}")).await.expect(200);
        assert_eq!(shown["state"], "ready", "{shown:#}");
        let url = shown["database_url"].as_str().expect("a URL");
        assert_eq!(
            sql::run(url, "SELECT current_user || ' ' || count(*) FROM stock").await,
            format!("medusa_pr_app_{number} 50")
        );
        sql::run(url, "ALTER TABLE stock ADD COLUMN more text; ALTER TABLE stock DROP COLUMN more; SELECT 1").await;
    }

    pub(super) async fn clean_up(self, daemon: &Daemon) {
        for preview in daemon.get("/v1/previews").await.expect(200)["items"].as_array().expect("items") {
            daemon.delete(&format!("/v1/preview-db/{}", preview["number"])).await.expect(200);
        }
        for entry in entries(daemon).await {
            daemon.delete(&format!("/v1/previews/-/pool/{entry}")).await.expect(200);
        }
        self.holds("").await;
        assert_eq!(rows(daemon), 0, "rows are left");
        daemon.destroy(INSTANCE).await;
        assert_nothing_left(daemon, &[]).await;
    }
}

async fn entries(daemon: &Daemon) -> Vec<String> {
    let previews = daemon.get("/v1/previews").await.expect(200);
    let pools = previews["pools"].as_array().expect("pools");
    let names = pools.iter().flat_map(|pool| pool["entries"].as_array().expect("entries"));
    names.map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Rows of previews and of the pool.
fn rows(daemon: &Daemon) -> i64 {
    rows_of(daemon, &["previews", "preview_pool"])
}

/// Rows of everything that is known of a server of previews.
pub(super) fn all_rows(daemon: &Daemon) -> i64 {
    let all = ["previews", "preview_pool", "preview_templates", "template_definitions", "preview_targets"];
    rows_of(daemon, &all)
}

fn rows_of(daemon: &Daemon, tables: &[&str]) -> i64 {
    let state = rusqlite::Connection::open(daemon.state_file()).expect("open the state file");
    let count = |table: &&str| -> i64 {
        state.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("count rows")
    };
    tables.iter().map(count).sum()
}

fn ensure_request() -> (Method, String, Body) {
    (Method::POST, "/v1/preview-db/ensure?wait=false".to_owned(), Body::Json(json!({ "pr_number": 1 })))
}

/// A preview that is cloned.
pub(super) struct EnsureCold;
/// A preview that the pool has ready.
pub(super) struct EnsureWarm;
/// A preview whose database is there, made by somebody else.
pub(super) struct EnsureFound;

impl Scenario for EnsureCold {
    const KIND: &'static str = "preview.ensure";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        Server::deploy_prepared(daemon).await
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        ensure_request()
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        server.holds("medusa_pr_1 medusa_pr_app_1").await;
        server.check_preview(daemon, 1).await;
        // Nobody has been told of it yet; whoever asks first is, and nobody else.
        let told = |answer: Value| answer["created"].as_bool().expect("created");
        let body = json!({ "pr_number": 1 });
        assert!(told(daemon.post("/v1/preview-db/ensure", &body).await.expect(200)));
        assert!(!told(daemon.post("/v1/preview-db/ensure", &body).await.expect(200)));
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, server: &Server) {
        server.holds("").await;
        assert_eq!(rows(daemon), 0);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        server.clean_up(daemon).await;
    }
}

impl Scenario for EnsureWarm {
    const KIND: &'static str = "preview.ensure";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = (Server, String);

    async fn setup(&self, daemon: &Daemon, _: &str) -> (Server, String) {
        let server = Server::deploy_prepared(daemon).await;
        daemon.poke("/v1/previews/-/warm").await.expect(200);
        let names = server.run(NAMES).await;
        (server, names)
    }

    fn request(&self, _: &(Server, String)) -> (Method, String, Body) {
        ensure_request()
    }

    async fn check_done(&self, daemon: &Daemon, (server, _): &(Server, String)) {
        assert_eq!(entries(daemon).await, Vec::<String>::new());
        EnsureCold.check_done(daemon, server).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, (server, names): &(Server, String)) {
        // What was handed out is gone; what was not is in the pool again.
        match entries(daemon).await.len() {
            0 => EnsureCold.check_taken_back(daemon, server).await,
            1 => {
                server.holds(names).await;
                assert_eq!(rows(daemon), 1);
            }
            more => panic!("{more} entries came of one"),
        }
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, (server, _): (Server, String)) {
        server.clean_up(daemon).await;
    }
}

impl Scenario for EnsureFound {
    const KIND: &'static str = "preview.ensure";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        let server = Server::deploy_prepared(daemon).await;
        server.run("CREATE DATABASE medusa_pr_1 TEMPLATE template_medusa OWNER zane_operator").await;
        sql::run(&server.url_of("medusa_pr_1"), "CREATE TABLE precious AS SELECT 1 AS n").await;
        server
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        ensure_request()
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        server.check_preview(daemon, 1).await;
        assert_eq!(sql::run(&server.url_of("medusa_pr_1"), "SELECT n FROM precious").await, "1");
        let answer = daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
        assert_eq!(answer["created"], false, "it was found");
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, server: &Server) {
        assert_eq!(sql::run(&server.url_of("medusa_pr_1"), "SELECT n FROM precious").await, "1", "never dropped");
        assert_eq!(rows(daemon), 0);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        daemon.delete("/v1/preview-db/1").await.expect(200);
        server.clean_up(daemon).await;
    }
}

/// A preview is removed.
pub(super) struct Delete;

impl Scenario for Delete {
    const KIND: &'static str = "preview.delete";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    const FORWARD_ONLY: bool = true;
    const NEEDS_ITSELF: bool = true;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        let server = Server::deploy_prepared(daemon).await;
        daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
        server
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        (Method::DELETE, "/v1/preview-db/1?wait=false".to_owned(), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        server.holds("").await;
        daemon.get("/v1/previews/-/1").await.refused(404);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &Server) {
        panic!("a delete was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        server.clean_up(daemon).await;
    }
}

/// A preview is made anew.
pub(super) struct Reset;

impl Scenario for Reset {
    const KIND: &'static str = "preview.reset";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    const FORWARD_ONLY: bool = true;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        let server = Server::deploy_prepared(daemon).await;
        daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
        sql::run(&server.url_of("medusa_pr_1"), "DELETE FROM stock").await;
        server
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        (Method::POST, "/v1/previews/-/1/reset?wait=false".to_owned(), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        server.holds("medusa_pr_1 medusa_pr_app_1").await;
        server.check_preview(daemon, 1).await;
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &Server) {
        panic!("a reset was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        server.clean_up(daemon).await;
    }
}

/// A clone is made ahead.
pub(super) struct PoolFill;

impl Scenario for PoolFill {
    const KIND: &'static str = "preview.pool_fill";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        Server::deploy_prepared(daemon).await
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        (Method::POST, "/v1/previews/-/warm?wait=false".to_owned(), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        let entries = entries(daemon).await;
        assert_eq!(entries.len(), 1);
        let role = entries[0].replace("medusa_pr_", "medusa_pr_app_");
        server.holds(&format!("{role} {}", entries[0])).await;
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, server: &Server) {
        server.holds("").await;
        assert_eq!(rows(daemon), 0);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        server.clean_up(daemon).await;
    }
}

/// A clone that was made ahead is removed.
pub(super) struct PoolDrop;

impl Scenario for PoolDrop {
    const KIND: &'static str = "preview.pool_drop";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    const FORWARD_ONLY: bool = true;
    type Subject = (Server, String);

    async fn setup(&self, daemon: &Daemon, _: &str) -> (Server, String) {
        let server = Server::deploy_prepared(daemon).await;
        let pool = daemon.poke("/v1/previews/-/warm").await.expect(200);
        let entry = pool["entries"][0].as_str().expect("an entry").to_owned();
        (server, entry)
    }

    fn request(&self, (_, entry): &(Server, String)) -> (Method, String, Body) {
        (Method::DELETE, format!("/v1/previews/-/pool/{entry}?wait=false"), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, (server, _): &(Server, String)) {
        server.holds("").await;
        assert_eq!(rows(daemon), 0);
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &(Server, String)) {
        panic!("the removal of an entry was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, (server, _): (Server, String)) {
        server.clean_up(daemon).await;
    }
}

/// A template is prepared.
pub(super) struct PrepareTemplate;

impl Scenario for PrepareTemplate {
    const KIND: &'static str = "template.prepare";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    const FORWARD_ONLY: bool = true;
    type Subject = Server;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Server {
        Server::deploy(daemon).await
    }

    fn request(&self, _: &Server) -> (Method, String, Body) {
        (Method::POST, "/v1/previews/-/prepare?wait=false".to_owned(), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, server: &Server) {
        let open = "SELECT datallowconn FROM pg_database WHERE datname = 'template_medusa'";
        assert_eq!(server.run(open).await, "f");
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &Server) {
        panic!("the preparation of a template was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, server: Server) {
        daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 1 })).await.expect(200);
        server.check_preview(daemon, 1).await;
        server.clean_up(daemon).await;
    }
}
