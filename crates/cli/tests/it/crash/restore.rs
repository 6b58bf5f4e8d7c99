//! `instance.restore`.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;

pub(super) struct Restore;

pub(super) struct Subject {
    name: String,
    url: String,
    db: String,
    dump: Vec<u8>,
}

/// What the dump holds, and what is there when it is restored.
const DUMPED: &str = "dumped";
const PRESENT: &str = "present";

impl Subject {
    /// What the database holds, and that there is no other database beside it.
    async fn holds(&self) -> String {
        let databases = "SELECT string_agg(datname, ' ') FROM pg_database \
                         WHERE datname NOT IN ('postgres', 'template0', 'template1')";
        assert_eq!(sql::run(&self.url, databases).await, self.db);
        assert_eq!(sql::run(&self.url, "SELECT count(*) FROM filling").await, "2000");
        sql::run(&self.url, "SELECT text FROM note").await
    }
}

impl Scenario for Restore {
    const KIND: &'static str = "instance.restore";
    type Subject = Subject;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Subject {
        let deployed = daemon.deploy_named(name).await;
        let url = deployed["database_url"].as_str().expect("a URL").to_owned();
        let filling =
            "CREATE TABLE filling AS SELECT n, repeat(md5(n::text), 20) AS text FROM generate_series(1, 2000) n";
        let note = format!("CREATE TABLE note (text text); INSERT INTO note VALUES ('{DUMPED}')");
        sql::run(&url, &format!("{filling}; ALTER TABLE filling ADD PRIMARY KEY (n); {note}")).await;
        let dump = daemon.get(&format!("/v1/db/{name}/dump")).await;
        assert_eq!((dump.status, dump.bytes.starts_with(b"PGDMP")), (200, true), "{:?}", dump.json);
        sql::run(&url, &format!("UPDATE note SET text = '{PRESENT}'")).await;
        let db = deployed["db"].as_str().expect("db").to_owned();
        Subject { name: name.to_owned(), url, db, dump: dump.bytes }
    }

    fn request(&self, subject: &Subject) -> (Method, String, Body) {
        let path = format!("/v1/db/{}/restore?wait=false", subject.name);
        (Method::POST, path, Body::Bytes(subject.dump.clone()))
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Subject) {
        assert_eq!(subject.holds().await, DUMPED);
        assert_eq!(sql::run(&subject.url, "INSERT INTO note VALUES ('owner'); SELECT 'writes'").await, "writes");
        sql::run(&subject.url, "DELETE FROM note WHERE text = 'owner'").await;
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn check_taken_back(&self, daemon: &Daemon, subject: &Subject) {
        assert_eq!(subject.holds().await, PRESENT);
        assert_nothing_left(daemon, &[&subject.name]).await;
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Subject) {
        daemon.destroy(&subject.name).await;
        assert_nothing_left(daemon, &[]).await;
    }
}
