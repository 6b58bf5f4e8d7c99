//! The registry file of the original daemon.

use pgdb_testkit::on::On;
use pgdb_testkit::world::assert_nothing_left;
use pgdb_testkit::{on_runtimes, sql};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
/// The documented fields.
pub(crate) const FIELDS: [&str; 11] = [
    "container_id",
    "created_at",
    "db",
    "host",
    "host_port",
    "name",
    "password",
    "postgres_version",
    "size_gb",
    "user",
    "volume_name",
];

on_runtimes!(
    process, docker;
    the_registry_is_exported_in_the_documented_format,
    a_lost_state_file_is_made_good_by_the_registry,
);

async fn the_registry_is_exported_in_the_documented_format(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("listed").await;
    let registry = daemon.get("/v1/registry").await.expect(200);
    let items = registry["items"].as_array().expect("items");
    assert_eq!(items.len(), 1);
    let mut fields: Vec<&str> = items[0].as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    for (theirs, ours) in [("name", "name"), ("db", "db"), ("user", "user"), ("password", "password")] {
        assert_eq!(items[0][theirs], deployed[ours]);
    }
    assert_eq!((&items[0]["host_port"], &items[0]["volume_name"]), (&deployed["port"], &Value::from("pgdb-listed")));
    assert_nothing_left(&daemon, &["listed"]).await;
}

async fn a_lost_state_file_is_made_good_by_the_registry(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("found").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    let started_at = sql::run(url, "SELECT pg_postmaster_start_time()").await;
    let registry = daemon.get("/v1/registry").await;
    daemon.stop().await;
    for end in ["", "-wal", "-shm"] {
        let mut name = daemon.state_file().into_os_string();
        name.push(end);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
    // An existing file is taken over at the first start.
    std::fs::write(daemon.data_dir().join("registry.json"), &registry.bytes).expect("write the registry");
    daemon.up(&[]).await;
    let item = daemon.wait_state("found", "running").await;
    assert_eq!(item["database_url"], url);
    assert_eq!(sql::run(url, "SELECT pg_postmaster_start_time()").await, started_at, "the server was started anew");
    // The file holds the password in clear, which is the original's format and no fault of ours.
    std::fs::remove_file(daemon.data_dir().join("registry.json")).unwrap_or_default();
    // Everything works as before, our administrator's rights too.
    daemon.poke("/v1/db/found/rotate-password").await.expect(200);
    daemon.destroy("found").await;
    assert_nothing_left(&daemon, &[]).await;
}
