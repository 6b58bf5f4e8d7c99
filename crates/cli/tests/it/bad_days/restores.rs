//! Restores whose server is killed, or which somebody wants to stop too late.

use super::BINARY;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::{assert_nothing_left, postmaster_pid};
use reqwest::Method;
use serde_json::Value;

/// A database that holds `present`, and a dump of it from when it held `dumped`.
struct Bed {
    daemon: Daemon,
    url: String,
    db: String,
    dump: Vec<u8>,
}

const PATH: &str = "/v1/db/archive/restore?wait=false";

impl Bed {
    /// `more` is run before the dump is made.
    async fn new(more: &str) -> Self {
        let daemon = Daemon::start(BINARY).await;
        let deployed = daemon.deploy_named("archive").await;
        let text = |field: &str| deployed[field].as_str().expect(field).to_owned();
        let (url, db) = (text("database_url"), text("db"));
        sql::run(&url, &format!("CREATE TABLE note AS SELECT 'dumped' AS text; {more}")).await;
        let dump = daemon.get("/v1/db/archive/dump").await.bytes;
        sql::run(&url, "UPDATE note SET text = 'present'").await;
        Self { daemon, url, db, dump }
    }

    async fn begin(&self) -> String {
        let begun = self.daemon.send(Method::POST, PATH, Body::Bytes(self.dump.clone())).await.expect(202);
        begun["id"].as_str().expect("an id").to_owned()
    }

    /// Waits for the end, and checks what the database holds and that no other is beside it.
    async fn ends(&self, id: &str, state: &str, holds: &str) -> Value {
        let operation = self.daemon.wait_operation(id).await;
        assert_eq!(operation["state"], state, "{operation:#}");
        self.daemon.wait_state("archive", "running").await;
        assert_eq!(sql::run(&self.url, "SELECT text FROM note").await, holds);
        let databases = "SELECT string_agg(datname, ' ') FROM pg_database \
                         WHERE datname NOT IN ('postgres', 'template0', 'template1')";
        assert_eq!(sql::run(&self.url, databases).await, self.db);
        assert_nothing_left(&self.daemon, &["archive"]).await;
        operation
    }

    fn kill_server(&self) {
        let pid = postmaster_pid(&self.daemon, "archive");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the server");
    }
}

#[tokio::test]
async fn a_restore_outlives_a_server_that_is_killed_between_its_steps() {
    let mut bed = Bed::new("SELECT 1").await;
    for step in ["create_database", "load", "swap", "drop_old"] {
        let fault = format!("instance.restore/{step}/pause@300");
        bed.daemon.crash_and_restart(&[("PGDB_FAULTS", &fault)]).await;
        sql::run(&bed.url, "UPDATE note SET text = 'present'").await;
        let id = bed.begin().await;
        bed.daemon.wait_step(&id, step).await;
        bed.kill_server();
        bed.ends(&id, "succeeded", "dumped").await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_reads_a_dump_keeps_what_it_had() {
    // The view is filled as the dump is read, which takes long enough to be killed in.
    let bed = Bed::new("CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one, pg_sleep(1)::text").await;
    let id = bed.begin().await;
    bed.daemon.wait_step(&id, "load").await;
    let reads =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%REFRESH%' AND application_name = 'pg_restore'";
    while sql::run(&bed.url, reads).await == "0" {
        tokio::task::yield_now().await;
    }
    bed.kill_server();
    let operation = bed.ends(&id, "undone", "present").await;
    assert_eq!(operation["error"]["code"], "postgres_failed", "{operation:#}");
    // And the next one goes through.
    let id = bed.begin().await;
    bed.ends(&id, "succeeded", "dumped").await;
}

#[tokio::test]
async fn a_dump_that_cannot_be_read_is_refused_without_a_word_of_its_rows() {
    // Good where it was made, and nowhere else.
    let bed = Bed::new(
        "CREATE FUNCTION here() RETURNS boolean LANGUAGE sql AS $$ SELECT current_database() NOT LIKE '%restoring' $$; \
         CREATE TABLE person (name text CHECK (public.here())); INSERT INTO person VALUES ('hunter2hunter2')",
    )
    .await;
    let answer = bed.daemon.send(Method::POST, "/v1/db/archive/restore", Body::Bytes(bed.dump.clone())).await;
    assert_eq!(answer.refused(400), "invalid_dump");
    assert!(answer.message().contains("violates check constraint"), "{}", answer.message());
    let id = answer.json["operation_id"].as_str().expect("the operation's id");
    let operation = bed.ends(id, "undone", "present").await;
    for text in [operation.to_string(), bed.daemon.log()] {
        assert!(!text.contains("hunter2"), "a row of the dump was told");
    }
}

#[tokio::test]
async fn a_restore_that_has_put_the_dump_in_place_is_not_cancelled() {
    let mut bed = Bed::new("SELECT 1").await;
    bed.daemon.crash_and_restart(&[("PGDB_FAULTS", "instance.restore/drop_old/hold")]).await;
    let id = bed.begin().await;
    bed.daemon.wait_step(&id, "drop_old").await;
    let cancel = bed.daemon.poke(&format!("/v1/operations/{id}/cancel")).await;
    assert_eq!(cancel.refused(409), "not_cancellable");
    bed.daemon.crash_and_restart(&[]).await;
    bed.ends(&id, "succeeded", "dumped").await;
}
