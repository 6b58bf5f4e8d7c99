//! `template.refresh`, `template.build`, `template.migrate`, `template.rollback` and `template.delete`, on an instance of the daemon's own.

use super::driver::Scenario;
use super::previews::{INSTANCE, NO_POOL, Server};
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;
use serde_json::json;

const PATH: &str = "/v1/templates/template_medusa";
/// Databases of the template.
const NAMES: &str = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database \
                     WHERE datname LIKE 'template\\_medusa%' AND NOT datallowconn";

/// A template with 50 rows, which is to become one of 70, and what that comes from.
pub(super) struct Subject {
    server: Server,
    dump: Vec<u8>,
}

async fn setup(daemon: &Daemon) -> Subject {
    let server = Server::deploy_prepared(daemon).await;
    server.run("CREATE TABLE stock AS SELECT n FROM generate_series(1, 90) n").await;
    let dump = daemon.get(&format!("/v1/db/{INSTANCE}/dump")).await.bytes;
    let definition = json!({
        "source_url": server.url,
        "mask": "DELETE FROM stock WHERE n > 70",
        "checks": ["SELECT count(*) = 70 FROM stock"],
    });
    daemon.send(Method::PUT, PATH, Body::Json(definition)).await.expect(200);
    Subject { server, dump }
}

/// What a clone of the template holds, and which databases there are.
async fn check(daemon: &Daemon, subject: &Subject, rows: &str, databases: &str) {
    assert_eq!(subject.server.run(NAMES).await, databases);
    let made = daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 7 })).await.expect(200);
    let url = subject.server.url_of(made["db_name"].as_str().expect("a name"));
    assert_eq!(pgdb_testkit::sql::run(&url, "SELECT count(*) FROM stock").await, rows);
    daemon.delete("/v1/preview-db/7").await.expect(200);
    assert_nothing_left(daemon, &[INSTANCE]).await;
}

const ALONE: &str = "template_medusa";
const WITH_PREVIOUS: &str = "template_medusa template_medusa_previous";

/// One way to make a template of 50 rows into one of 70.
pub(super) trait Way {
    /// The kind.
    const KIND: &'static str;

    fn request(&self, subject: &Subject) -> (Method, String, Body);
}

/// A template is made anew, one way or another.
pub(super) struct Remade<W>(pub(super) W);

impl<W: Way> Scenario for Remade<W> {
    const KIND: &'static str = W::KIND;
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Subject;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Subject {
        setup(daemon).await
    }

    fn request(&self, subject: &Subject) -> (Method, String, Body) {
        self.0.request(subject)
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Subject) {
        check(daemon, subject, "70", WITH_PREVIOUS).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, subject: &Subject) {
        check(daemon, subject, "50", ALONE).await;
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Subject) {
        subject.server.clean_up(daemon).await;
    }
}

/// It is read from a dump or from a source.
pub(super) struct Refresh {
    pub(super) from_dump: bool,
}

impl Way for Refresh {
    const KIND: &'static str = "template.refresh";

    fn request(&self, subject: &Subject) -> (Method, String, Body) {
        if self.from_dump {
            (Method::POST, format!("{PATH}/refresh/dump?wait=false"), Body::Bytes(subject.dump.clone()))
        } else {
            (Method::POST, format!("{PATH}/refresh?wait=false"), Body::None)
        }
    }
}

/// It is built from files.
pub(super) struct Build;

impl Way for Build {
    const KIND: &'static str = "template.build";

    fn request(&self, _: &Subject) -> (Method, String, Body) {
        let files = json!({ "files": [
            { "name": "1.sql", "sql": "CREATE TABLE stock (n integer)" },
            { "name": "2.sql", "sql": "INSERT INTO stock SELECT generate_series(1, 70)" },
        ] });
        (Method::POST, format!("{PATH}/build?wait=false"), Body::Json(files))
    }
}

/// A copy of it is migrated and takes its place.
pub(super) struct Migrate;

impl Way for Migrate {
    const KIND: &'static str = "template.migrate";

    fn request(&self, _: &Subject) -> (Method, String, Body) {
        // Fails if it is run twice.
        let files = json!({ "files": [{ "name": "shop/001_more.sql", "sql":
            "INSERT INTO stock SELECT generate_series(51, 70); ALTER TABLE stock ADD PRIMARY KEY (n)" }] });
        (Method::POST, format!("{PATH}/migrate?wait=false"), Body::Json(files))
    }
}

/// A template and the one before it change places.
pub(super) struct Rollback;

impl Scenario for Rollback {
    const KIND: &'static str = "template.rollback";
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Subject;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Subject {
        let subject = setup(daemon).await;
        daemon.poke(&format!("{PATH}/refresh")).await.expect(200);
        subject
    }

    fn request(&self, _: &Subject) -> (Method, String, Body) {
        (Method::POST, format!("{PATH}/rollback?wait=false"), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Subject) {
        check(daemon, subject, "50", WITH_PREVIOUS).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, subject: &Subject) {
        check(daemon, subject, "70", WITH_PREVIOUS).await;
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Subject) {
        subject.server.clean_up(daemon).await;
    }
}

/// A template goes with all that is of it.
pub(super) struct Delete;

impl Scenario for Delete {
    const KIND: &'static str = "template.delete";
    const FORWARD_ONLY: bool = true;
    const ENV: &'static [(&'static str, &'static str)] = NO_POOL;
    type Subject = Subject;

    async fn setup(&self, daemon: &Daemon, _: &str) -> Subject {
        let subject = setup(daemon).await;
        daemon.poke(&format!("{PATH}/refresh")).await.expect(200);
        daemon.poke("/v1/previews/-/warm").await.expect(200);
        subject
    }

    fn request(&self, _: &Subject) -> (Method, String, Body) {
        (Method::DELETE, format!("{PATH}?wait=false"), Body::None)
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Subject) {
        let left = "SELECT coalesce(string_agg(name, ' '), '') FROM (SELECT datname AS name FROM pg_database \
                    UNION SELECT rolname FROM pg_roles) all_names \
                    WHERE name LIKE 'template\\_medusa%' OR name LIKE 'medusa\\_pr\\_%'";
        assert_eq!(subject.server.run(left).await, "");
        assert_eq!(daemon.get(PATH).await.refused(404), "template_not_found");
        assert_nothing_left(daemon, &[INSTANCE]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, _: &Subject) {
        panic!("the delete was taken back, which it never is");
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Subject) {
        subject.server.clean_up(daemon).await;
    }
}
