//! Container engines that are away, lose what they held, or have not what is asked for.

use super::{BINARY, LIMIT, noted, wait_for_note};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::docker::Engine;
use pgdb_testkit::on::On;
use pgdb_testkit::world::{self, assert_nothing_left};
use pgdb_testkit::{on_runtimes, sql, wait};
use reqwest::Method;
use serde_json::{Value, json};

on_runtimes!(
    docker;
    a_removed_container_comes_back_on_its_volume,
    a_server_killed_inside_of_its_container_comes_back,
    what_the_engine_restarts_goes_on_at_the_same_port,
    an_engine_that_is_away_is_told_and_found_again,
    a_deploy_outlives_its_engines_death,
    a_data_directory_that_was_made_half_is_made_again,
    an_image_that_is_missing_is_named,
    a_container_that_never_becomes_ready_says_what_it_said,
    a_strangers_container_or_volume_is_left_alone,
    kept_data_that_a_container_has_is_left_alone,
    both_runtimes_live_in_one_daemon,
    eighteen_keeps_its_data_one_level_higher,
);

// What engines disagree about: removed containers, layouts of images. For taken ports see `ports`.
on_runtimes!(
    podman;
    a_removed_container_comes_back_on_its_volume,
    an_image_that_is_missing_is_named,
    eighteen_keeps_its_data_one_level_higher,
);

fn engine(daemon: &Daemon) -> &Engine {
    daemon.engine().expect("databases run in containers")
}

async fn a_removed_container_comes_back_on_its_volume(on: &On) {
    let daemon = on.start(BINARY).await;
    let url = noted(&daemon, "phoenix").await;
    let before = daemon.item("phoenix").await["container_id"].clone();
    engine(&daemon).ask(Method::DELETE, "/containers/pgdb-phoenix?force=true", Value::Null).await;
    wait_for_note(&url).await;
    daemon.wait_state("phoenix", "running").await;
    let look = || async { Some(daemon.item("phoenix").await).filter(|item| item["container_id"] != before) };
    let item = wait::until(LIMIT, "the new container to be noted", look).await;
    let seen = engine(&daemon).ask(Method::GET, "/containers/pgdb-phoenix/json", Value::Null).await;
    assert_eq!(seen["Id"], item["container_id"]);

    // Without its volume there is nothing to bring back.
    daemon.poke("/v1/db/phoenix/stop").await.expect(200);
    engine(&daemon).ask(Method::DELETE, "/containers/pgdb-phoenix", Value::Null).await;
    engine(&daemon).ask(Method::DELETE, "/volumes/pgdb-phoenix", Value::Null).await;
    for verb in ["start", "restart"] {
        let answer = daemon.poke(&format!("/v1/db/phoenix/{verb}")).await;
        assert_eq!(answer.refused(502), "server_failed");
        assert!(answer.message().contains("pgdb-phoenix is gone"), "{}", answer.message());
    }
    assert!(engine(&daemon).volumes().await.is_empty(), "an empty one in its place");
    daemon.destroy("phoenix").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn a_server_killed_inside_of_its_container_comes_back(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let url = noted(&daemon, "phoenix").await;
    for adopted in [false, true] {
        if adopted {
            daemon.crash_and_restart(&[]).await;
        }
        let seen = engine(&daemon).ask(Method::GET, "/containers/pgdb-phoenix/json", Value::Null).await;
        let pid = i32::try_from(seen["State"]["Pid"].as_i64().expect("a process id")).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the server");
        wait_for_note(&url).await;
        daemon.wait_state("phoenix", "running").await;
    }
    assert_nothing_left(&daemon, &["phoenix"]).await;
}

/// As after a reboot of the machine: the engine starts what was running, whether or not there is a daemon.
async fn what_the_engine_restarts_goes_on_at_the_same_port(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let (running, stopped) = (noted(&daemon, "running").await, noted(&daemon, "stopped").await);
    daemon.poke("/v1/db/stopped/stop").await.expect(200);
    daemon.kill9().await;
    engine(&daemon).stop();
    engine(&daemon).start().await;
    wait_for_note(&running).await;
    daemon.up(&[]).await;
    daemon.wait_state("running", "running").await;
    assert_eq!(daemon.item("stopped").await["state"], "stopped");
    assert!(sql::login(&stopped).await.is_err(), "a stopped server was started");
    assert_nothing_left(&daemon, &["running", "stopped"]).await;
}

async fn an_engine_that_is_away_is_told_and_found_again(on: &On) {
    let daemon = on.start(BINARY).await;
    let url = noted(&daemon, "waiting").await;
    engine(&daemon).stop();
    let answer = daemon.post("/v1/deploy", &json!({ "name": "in-vain" })).await;
    assert_eq!(answer.refused(502), "docker_unavailable");
    assert!(answer.message().contains("DOCKER_HOST") && answer.message().contains("start it"), "{}", answer.message());
    let item = daemon.wait_state("waiting", "degraded").await;
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("cannot be reached")), "{item}");
    engine(&daemon).start().await;
    wait_for_note(&url).await;
    daemon.wait_state("waiting", "running").await;

    // Without warning: then the engine ends its containers when it is back, and leaves them so.
    engine(&daemon).kill9();
    daemon.wait_state("waiting", "degraded").await;
    engine(&daemon).start().await;
    wait_for_note(&url).await;
    daemon.wait_state("waiting", "running").await;
    assert_nothing_left(&daemon, &["waiting"]).await;
}

async fn a_deploy_outlives_its_engines_death(on: &On) {
    let mut daemon = on.start(BINARY).await;
    for (number, step) in ["prepare", "copy", "configure", "start", "claim", "verify"].into_iter().enumerate() {
        let name = format!("mid-{number}");
        daemon.crash_and_restart(&[("PGDB_FAULTS", &format!("instance.deploy/{step}/hold"))]).await;
        let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": name })).await.expect(202);
        let id = begun["id"].as_str().expect("an id");
        daemon.wait_step(id, step).await;
        daemon.kill9().await;
        engine(&daemon).kill9();
        daemon.up(&[]).await;
        engine(&daemon).start().await;
        let operation = daemon.wait_operation(id).await;
        match operation["state"].as_str() {
            Some("succeeded") => {
                let item = daemon.wait_state(&name, "running").await;
                assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
                daemon.destroy(&name).await;
            }
            // It gave up while the engine was away, and took back what it had made.
            Some("undone") => drop(daemon.get(&format!("/v1/db/{name}")).await.refused(404).to_owned()),
            other => panic!("{step}: {other:?} {operation:#}"),
        }
        assert_nothing_left(&daemon, &[]).await;
    }
}

async fn a_data_directory_that_was_made_half_is_made_again(on: &On) {
    let mut daemon = on.start(BINARY).await;
    daemon.crash_and_restart(&[("PGDB_FAULTS", "instance.deploy/start/before")]).await;
    let request = Body::Json(json!({ "name": "halved" }));
    let _ = daemon.try_send(Method::POST, "/v1/deploy?wait=false", request).await;
    daemon.ended().await;
    // The container is killed while it makes the data, as by a power cut, and then started again.
    let ask = |method, path: &'static str| engine(&daemon).ask(method, path, Value::Null);
    ask(Method::POST, "/containers/pgdb-halved/start").await;
    let look = || async {
        let top = ask(Method::GET, "/containers/pgdb-halved/top").await.to_string();
        (top.contains("initdb") || top.contains("--boot") || top.contains("--single")).then_some(())
    };
    wait::until(LIMIT, "the data to be begun", look).await;
    ask(Method::POST, "/containers/pgdb-halved/kill").await;
    daemon.up(&[]).await;
    let id = world::latest_operation(&daemon, "instance.deploy").expect("the deploy was written down");
    assert_eq!(daemon.wait_operation(&id).await["state"], "succeeded");
    let url = daemon.item("halved").await["database_url"].as_str().expect("a URL").to_owned();
    assert_eq!(sql::run(&url, "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["halved"]).await;
}

async fn an_image_that_is_missing_is_named(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "old", "version": 14 })).await;
    assert_eq!(answer.refused(400), "image_missing");
    assert!(answer.message().contains("docker pull postgres:14"), "{}", answer.message());
    // A registry that is nowhere.
    daemon.crash_and_restart(&[("PGDB_DOCKER_PULL", "missing"), ("PGDB_DOCKER_IMAGE", "localhost:1/pg:{major}")]).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "old" })).await;
    assert_eq!(answer.refused(400), "image_missing");
    assert!(answer.message().contains("localhost:1/pg:16"), "{}", answer.message());
    assert_nothing_left(&daemon, &[]).await;
}

async fn a_container_that_never_becomes_ready_says_what_it_said(on: &On) {
    let mut daemon = on.prepare(BINARY);
    // An image whose entrypoint talks and never comes to the point, and one that gives up.
    for (tag, script) in [
        ("waits", "trap 'exit 1' INT; echo looking for a needle; while :; do sleep 0.1; done"),
        ("ends", "echo no needle found; exit 3"),
    ] {
        let body = json!({ "Image": "postgres:16", "Entrypoint": ["sh", "-c", script] });
        let made = engine(&daemon).ask(Method::POST, "/containers/create?name=model", body).await;
        let id = made["Id"].as_str().expect("an id");
        let path = format!("/commit?container={id}&repo={tag}&tag=16");
        engine(&daemon).ask(Method::POST, &path, json!({ "Entrypoint": ["sh", "-c", script] })).await;
        engine(&daemon).ask(Method::DELETE, "/containers/model?v=true", Value::Null).await;
    }
    let limit = ("PGDB_DOCKER_START_TIMEOUT", "2");
    daemon.up(&[limit, ("PGDB_DOCKER_IMAGE", "waits:{major}")]).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "late" })).await;
    assert_eq!(answer.refused(502), "server_failed");
    assert!(answer.message().contains("looking for a needle"), "{}", answer.message());
    assert!(answer.message().contains("within 2 s"), "{}", answer.message());
    daemon.crash_and_restart(&[limit, ("PGDB_DOCKER_IMAGE", "ends:{major}")]).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "late" })).await;
    assert_eq!(answer.refused(502), "server_failed");
    assert!(answer.message().contains("no needle found"), "{}", answer.message());
    assert!(answer.message().contains("exit code 3"), "{}", answer.message());
    assert_nothing_left(&daemon, &[]).await;
    for tag in ["waits:16", "ends:16"] {
        engine(&daemon).ask(Method::DELETE, &format!("/images/{tag}"), Value::Null).await;
    }
}

async fn a_strangers_container_or_volume_is_left_alone(on: &On) {
    let daemon = on.start(BINARY).await;
    let ask = |method, path: &'static str, body| engine(&daemon).ask(method, path, body);
    ask(Method::POST, "/containers/create?name=pgdb-theirs", json!({ "Image": "postgres:16" })).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "theirs" })).await;
    assert_eq!(answer.refused(409), "not_ours");
    assert!(answer.message().contains("pgdb-theirs") && answer.message().contains("docker rm"), "{}", answer.message());
    ask(Method::DELETE, "/containers/pgdb-theirs?v=true", Value::Null).await;
    ask(Method::POST, "/volumes/create", json!({ "Name": "pgdb-theirs" })).await;
    let answer = daemon.post("/v1/deploy", &json!({ "name": "theirs" })).await;
    assert_eq!(answer.refused(409), "not_ours");
    assert!(answer.message().contains("docker volume rm pgdb-theirs"), "{}", answer.message());
    assert_eq!(engine(&daemon).volumes().await.len(), 1, "the volume is still there");
    ask(Method::DELETE, "/volumes/pgdb-theirs", Value::Null).await;
    daemon.deploy_named("theirs").await;
    assert_nothing_left(&daemon, &["theirs"]).await;
}

async fn kept_data_that_a_container_has_is_left_alone(on: &On) {
    let daemon = on.start(BINARY).await;
    noted(&daemon, "keeper").await;
    daemon.delete("/v1/db/keeper?keep_data=true").await.expect(200);
    let ask = |method, path: &'static str, body| engine(&daemon).ask(method, path, body);
    let body = json!({ "Image": "postgres:16", "HostConfig": { "Binds": ["pgdb-keeper:/somewhere"] } });
    ask(Method::POST, "/containers/create?name=looking", body).await;
    let wanted = json!({ "name": "again", "from_volume": "pgdb-keeper" });
    let answer = daemon.post("/v1/deploy", &wanted).await;
    assert_eq!(answer.refused(409), "not_ours");
    assert!(answer.message().contains("the container looking has it"), "{}", answer.message());
    assert_eq!(daemon.status().await.len(), 0);
    ask(Method::DELETE, "/containers/looking?v=true", Value::Null).await;
    let again = daemon.deploy(wanted).await;
    wait_for_note(again["database_url"].as_str().expect("a URL")).await;
    daemon.destroy("again").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn both_runtimes_live_in_one_daemon(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let boxed = daemon.deploy(json!({ "name": "boxed" })).await;
    let bare = daemon.deploy(json!({ "name": "bare", "runtime": "process" })).await;
    for round in 0..2 {
        let runtimes: Vec<_> = daemon.status().await.iter().map(|item| item["runtime"].clone()).collect();
        assert_eq!(runtimes, ["process", "docker"], "bare, then boxed");
        for deployed in [&boxed, &bare] {
            let url = deployed["database_url"].as_str().expect("a URL");
            assert_eq!(sql::run(url, "SELECT 1").await, "1");
        }
        assert_eq!(boxed["postgres_version"], 16, "the original's default");
        if round == 0 {
            daemon.crash_and_restart(&[("PGDB_RUNTIME", "process")]).await;
            daemon.wait_state("boxed", "running").await;
        }
    }
    daemon.destroy("bare").await;
    assert_nothing_left(&daemon, &["boxed"]).await;
}

async fn eighteen_keeps_its_data_one_level_higher(on: &On) {
    let daemon = on.start(BINARY).await;
    let request = json!({ "name": "newer", "version": 18, "size_gb": 5, "memory_mb": 512 });
    let deployed = daemon.deploy(request).await;
    let url = deployed["database_url"].as_str().expect("a URL");
    let place = sql::run(url, "SELECT current_setting('server_version_num')::int / 10000").await;
    assert_eq!(place, "18");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let seen = engine(&daemon).ask(Method::GET, "/containers/pgdb-newer/json", Value::Null).await;
    assert_eq!(seen["Mounts"].as_array().map(Vec::len), Some(1), "no volume beside ours: {}", seen["Mounts"]);
    assert_eq!(seen["Mounts"][0]["Destination"], "/var/lib/postgresql");
    assert_eq!(seen["HostConfig"]["Memory"], 512 << 20);
    assert_eq!(seen["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    engine(&daemon).ask(Method::DELETE, "/containers/pgdb-newer?force=true", Value::Null).await;
    wait_for_note(url).await;
    daemon.wait_state("newer", "running").await;
    assert_nothing_left(&daemon, &["newer"]).await;
}
