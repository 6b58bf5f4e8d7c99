//! Switching from the original daemon: its containers are taken over as they run.

use crate::registry::FIELDS;
use pgdb_testkit::api::Body;
use pgdb_testkit::docker::Engine;
use pgdb_testkit::on::On;
use pgdb_testkit::sql::Session;
use pgdb_testkit::world::assert_nothing_left;
use pgdb_testkit::{on_runtimes, sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
const LIMIT: Duration = Duration::from_secs(60);

on_runtimes!(
    docker;
    the_originals_databases_go_on_without_a_restart,
    a_registry_waits_for_its_engine,
    data_that_the_original_kept_is_deployed_again,
);
on_runtimes!(
    podman;
    the_originals_databases_go_on_without_a_restart,
    data_that_the_original_kept_is_deployed_again,
);

/// A database of the original daemon, with a note in it.
struct Original {
    /// What its registry says of it.
    item: Value,
    url: String,
    session: Session,
}

/// Makes one as the original daemon does.
async fn original(engine: &Engine, name: &str, port: u16) -> Original {
    let (db, user, password) = ("pg_3w7x9q2mzd", "u_4p9ks2j8ra", "1LkQYt8f8uRa0PHX8nD_7T2Z7qg5i9W8vB3xkM4");
    let volume = format!("pgdb-{name}");
    let body = json!({
        "Image": "postgres:16",
        "Env": [format!("POSTGRES_USER={user}"), format!("POSTGRES_PASSWORD={password}"), format!("POSTGRES_DB={db}")],
        "ExposedPorts": { "5432/tcp": {} },
        "HostConfig": {
            "Binds": [format!("{volume}:/var/lib/postgresql/data")],
            "PortBindings": { "5432/tcp": [{ "HostPort": port.to_string() }] },
            "RestartPolicy": { "Name": "unless-stopped" },
        },
    });
    let made = engine.ask(Method::POST, &format!("/containers/create?name=pgdb-{name}"), body).await;
    engine.ask(Method::POST, &format!("/containers/pgdb-{name}/start"), Value::Null).await;
    let url = format!("postgres://{user}:{password}@127.0.0.1:{port}/{db}?sslmode=disable");
    let look = || async { sql::login(&url).await.ok() };
    let session = wait::until(LIMIT, "the original's database", look).await;
    session.run("CREATE TABLE note AS SELECT 'kept' AS text").await.expect("written");
    let item = json!({
        "name": name, "container_id": made["Id"], "volume_name": volume, "host": "127.0.0.1", "host_port": port,
        "db": db, "user": user, "password": password, "created_at": "2025-11-02T10:00:00Z", "postgres_version": 16,
        "size_gb": 2,
    });
    Original { item, url, session }
}

async fn the_originals_databases_go_on_without_a_restart(on: &On) {
    let mut daemon = on.prepare(BINARY);
    let port = daemon.first_port();
    let Original { item, url, session } = original(daemon.engine().expect("an engine"), "classic", port).await;
    let started_at = session.run("SELECT pg_postmaster_start_time()").await.expect("asked").expect("a time");
    std::fs::create_dir_all(daemon.data_dir()).expect("made");
    let registry = daemon.data_dir().join("registry.json");
    std::fs::write(&registry, json!({ "items": [item] }).to_string()).expect("write the registry");

    daemon.up(&[]).await;
    let seen = daemon.wait_state("classic", "running").await;
    assert_eq!((&seen["container_id"], &seen["runtime"]), (&item["container_id"], &json!("docker")));
    assert_eq!((&seen["database_url"], &seen["size_gb"]), (&json!(url), &json!(2)));
    let still = session.run("SELECT pg_postmaster_start_time()").await.expect("the session goes on");
    assert_eq!(still.as_deref(), Some(started_at.as_str()), "the server was started anew");
    let exported = daemon.get("/v1/registry").await.expect(200);
    for field in FIELDS {
        if field != "created_at" {
            assert_eq!(exported["items"][0][field], item[field], "{field}");
        }
    }

    // What can be asked of ours can be asked of it.
    let dump = daemon.get("/v1/db/classic/dump").await;
    assert_eq!((dump.status, dump.bytes.starts_with(b"PGDMP")), (200, true), "{}", dump.json);
    let rotated = daemon.poke("/v1/db/classic/rotate-password").await.expect(200);
    let url = rotated["database_url"].as_str().expect("a URL");
    daemon.send(Method::POST, "/v1/db/classic/restore", Body::Bytes(dump.bytes)).await.expect(200);
    daemon.poke("/v1/db/classic/restart").await.expect(200);
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    daemon.crash_and_restart(&[]).await;
    daemon.wait_state("classic", "running").await;
    assert_eq!(daemon.status().await.len(), 1, "a registry is taken over once");

    // Its container removed by hand: the same data in a container of ours.
    daemon.engine().expect("an engine").ask(Method::DELETE, "/containers/pgdb-classic?force=true", Value::Null).await;
    let look = || async { sql::login(url).await.ok()?.run("SELECT text FROM note").await.ok() };
    wait::until(LIMIT, "the server to answer again", look).await;
    daemon.wait_state("classic", "running").await;
    std::fs::remove_file(&registry).expect("removed");

    // Its data kept, and deployed once more.
    daemon.delete("/v1/db/classic?keep_data=true").await.expect(200);
    let again = daemon.deploy(json!({ "name": "classic", "from_volume": "pgdb-classic" })).await;
    assert_eq!((&again["user"], &again["db"]), (&item["user"], &item["db"]));
    assert_eq!(sql::run(again["database_url"].as_str().expect("a URL"), "SELECT text FROM note").await, "kept");
    daemon.destroy("classic").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn a_registry_waits_for_its_engine(on: &On) {
    let mut daemon = on.prepare(BINARY);
    let port = daemon.first_port();
    let Original { item, url, session } = original(daemon.engine().expect("an engine"), "classic", port).await;
    drop(session);
    std::fs::create_dir_all(daemon.data_dir()).expect("made");
    let registry = daemon.data_dir().join("registry.json");
    std::fs::write(&registry, json!({ "items": [item] }).to_string()).expect("write the registry");
    daemon.engine().expect("an engine").stop();
    daemon.up(&[]).await;
    assert_eq!(daemon.status().await.len(), 0);
    daemon.engine().expect("an engine").start().await;
    let look = || async { (daemon.status().await.len() == 1).then_some(()) };
    wait::until(LIMIT, "the registry to be taken over", look).await;
    daemon.wait_state("classic", "running").await;
    assert_eq!(sql::run(&url, "SELECT text FROM note").await, "kept");
    std::fs::remove_file(&registry).expect("removed");
    daemon.destroy("classic").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn data_that_the_original_kept_is_deployed_again(on: &On) {
    let daemon = on.start(BINARY).await;
    let ask = |method, path: &'static str, body| daemon.engine().expect("an engine").ask(method, path, body);
    let Original { item, session, .. } =
        original(daemon.engine().expect("an engine"), "classic", daemon.first_port()).await;
    drop(session);
    let wanted = |version: u16| json!({ "name": "again", "from_volume": "pgdb-classic", "version": version });

    // As long as a container has it, it is that one's.
    let answer = daemon.post("/v1/deploy", &wanted(16)).await;
    assert_eq!(answer.refused(409), "not_ours");
    assert!(answer.message().contains("pgdb-classic has it"), "{}", answer.message());
    ask(Method::POST, "/containers/pgdb-classic/stop", Value::Null).await;
    assert_eq!(daemon.post("/v1/deploy", &wanted(16)).await.refused(409), "not_ours");
    ask(Method::DELETE, "/containers/pgdb-classic", Value::Null).await;

    // Neither another major, nor a volume that holds something else, nor one that is not called like ours.
    let answer = daemon.post("/v1/deploy", &wanted(18)).await;
    assert_eq!(answer.refused(502), "server_failed");
    for volume in ["pgdb-empty", "precious"] {
        ask(Method::POST, "/volumes/create", json!({ "Name": volume })).await;
    }
    let answer = daemon.post("/v1/deploy", &json!({ "name": "empty", "from_volume": "pgdb-empty" })).await;
    assert_eq!(answer.refused(502), "server_failed");
    assert!(answer.message().contains("there is no data of PostgreSQL in the volume"), "{}", answer.message());
    let answer = daemon.post("/v1/deploy", &json!({ "name": "thief", "from_volume": "precious" })).await;
    assert_eq!(answer.refused(409), "volume_not_found");
    ask(Method::DELETE, "/volumes/pgdb-empty", Value::Null).await;
    ask(Method::DELETE, "/volumes/precious", Value::Null).await;
    assert_eq!(daemon.status().await.len(), 0);

    // After all that it is whole.
    let again = daemon.deploy(wanted(16)).await;
    assert_eq!((&again["user"], &again["db"]), (&item["user"], &item["db"]));
    assert_ne!(again["password"], item["password"]);
    let url = again["database_url"].as_str().expect("a URL");
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    assert_eq!(daemon.item("again").await["volume_name"], "pgdb-classic");
    let twice = daemon.post("/v1/deploy", &json!({ "name": "twice", "from_volume": "pgdb-classic" })).await;
    assert_eq!(twice.refused(409), "not_ours");
    daemon.poke("/v1/db/again/rotate-password").await.expect(200);
    daemon.poke("/v1/db/again/restart").await.expect(200);
    let url = daemon.item("again").await["database_url"].clone();
    assert_eq!(sql::run(url.as_str().expect("a URL"), "SELECT text FROM note").await, "kept");
    daemon.destroy("again").await;
    assert_nothing_left(&daemon, &[]).await;
}
