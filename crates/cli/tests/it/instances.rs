//! What one instance can be asked, from deploy to destroy.

use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::on::On;
use pgdb_testkit::on_runtimes;
use pgdb_testkit::world::{Expected, assert_nothing_left, assert_only};
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

on_runtimes!(
    process, docker;
    what_was_chosen_at_deploy_holds,
    one_databases_owner_is_nobody_in_another,
    an_owner_cannot_get_at_the_machine,
    a_protected_instance_is_not_destroyed,
    kept_data_comes_back_with_its_rows_and_a_new_password,
    of_two_deploys_from_one_volume_one_gets_it_and_the_other_leaves_nothing,
    a_volume_keeps_its_name_while_a_deploy_takes_it_into_use,
    a_rotated_password_takes_the_old_ones_place,
    a_dump_restores_what_was_there,
    a_dump_that_fails_is_never_taken_for_a_whole_one,
    garbage_is_refused_and_the_database_stays_as_it_is,
    a_stopped_instance_says_so_and_starts_at_the_same_place,
    a_server_with_tls_takes_no_plain_connection,
    a_destroy_ends_sessions_and_leaves_nothing,
    secrets_outlive_a_new_key_and_restarts,
);

// Another engine of the same API: what differs between the two would show here.
on_runtimes!(
    podman;
    what_was_chosen_at_deploy_holds,
    kept_data_comes_back_with_its_rows_and_a_new_password,
    a_dump_restores_what_was_there,
    a_stopped_instance_says_so_and_starts_at_the_same_place,
    a_server_with_tls_takes_no_plain_connection,
);

fn url(deployed: &Value) -> &str {
    deployed["database_url"].as_str().expect("a URL")
}

async fn what_was_chosen_at_deploy_holds(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon
        .deploy(json!({ "name": "Chosen", "size_gb": 2, "max_connections": 17, "memory_mb": 256, "superuser": true }))
        .await;
    assert_eq!(deployed["name"], "chosen", "names are lower-cased");
    assert_eq!(sql::run(url(&deployed), "SHOW max_connections").await, "17");
    assert_eq!(sql::run(url(&deployed), "SHOW shared_buffers").await, "64MB");
    assert_eq!(sql::run(url(&deployed), "SHOW is_superuser").await, "on");
    assert_eq!(sql::run(url(&deployed), "SHOW password_encryption").await, "scram-sha-256");
    let item = daemon.item("chosen").await;
    assert_eq!(
        (&item["size_gb"], &item["over_quota"], &item["runtime"]),
        (&json!(2), &json!(false), &json!(on.name()))
    );

    let plain = daemon.deploy_named("plain").await;
    assert_eq!(sql::run(url(&plain), "SHOW is_superuser").await, "off");
    let rights = "SELECT concat_ws(' ', rolsuper, rolreplication, rolbypassrls) FROM pg_roles \
                  WHERE rolname = current_user";
    assert_eq!(sql::run(url(&plain), rights).await, "f f f");
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let identifiers = (sql::run(url(&deployed), identifier).await, sql::run(url(&plain), identifier).await);
    assert_ne!(identifiers.0, identifiers.1, "two servers have one system identifier");
    assert_nothing_left(&daemon, &["chosen", "plain"]).await;
}

async fn one_databases_owner_is_nobody_in_another(on: &On) {
    let daemon = on.start(BINARY).await;
    let (one, two) = (daemon.deploy_named("one").await, daemon.deploy_named("two").await);
    let wrong = url(&one).replace(&one["port"].to_string(), &two["port"].to_string());
    assert_ne!(wrong, url(&one));
    let error = sql::login(&wrong).await.expect_err("one's owner gets into two");
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{error:?}");
    for role in ["pgdb_admin", "pgdb_prepared_role", "postgres"] {
        let other = url(&one).replace(one["user"].as_str().expect("user"), role);
        assert!(sql::login(&other).await.is_err(), "{role} gets in over TCP");
    }
    assert_nothing_left(&daemon, &["one", "two"]).await;
}

async fn an_owner_cannot_get_at_the_machine(on: &On) {
    let daemon = on.start(BINARY).await;
    let engines = daemon.get("/v1/engines").await.expect(200);
    for major in engines["items"].as_array().expect("items").iter().map(|engine| engine["major"].clone()) {
        let deployed = daemon.deploy(json!({ "name": format!("caged-{major}"), "version": major })).await;
        for attempt in [
            "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
            "GRANT pg_execute_server_program TO CURRENT_USER",
            "GRANT pg_read_server_files TO CURRENT_USER",
            "GRANT pgdb_admin TO CURRENT_USER",
            "ALTER ROLE CURRENT_USER SUPERUSER",
            "ALTER ROLE pgdb_admin PASSWORD 'x'",
            "CREATE ROLE stooge IN ROLE pg_execute_server_program",
            "SELECT pg_read_file('/etc/passwd')",
            "ALTER SYSTEM SET archive_command = 'true'",
        ] {
            let session = sql::login(url(&deployed)).await.expect("log in");
            let error = session.run(attempt).await.err();
            let code = error.as_ref().and_then(|error| error.code()).map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "PostgreSQL {major}: {attempt}");
        }
    }
}

async fn a_protected_instance_is_not_destroyed(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy(json!({ "name": "precious", "protected": true })).await;
    for path in ["/v1/db/precious", "/v1/db/precious?keep_data=true"] {
        let answer = daemon.delete(path).await;
        assert_eq!(answer.refused(423), "protected");
        assert!(answer.message().contains("unprotect"), "{}", answer.message());
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    }
    assert_eq!(daemon.item("precious").await["state"], "running");
    assert_eq!(sql::run(url(&deployed), "SELECT 1").await, "1");
    daemon.poke("/v1/db/precious/unprotect").await.expect(200);
    daemon.poke("/v1/db/precious/protect").await.expect(200);
    daemon.delete("/v1/db/precious").await.refused(423);
    daemon.poke("/v1/db/precious/unprotect").await.expect(200);
    daemon.destroy("precious").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn kept_data_comes_back_with_its_rows_and_a_new_password(on: &On) {
    let daemon = on.start(BINARY).await;
    let first = daemon.deploy_named("diary").await;
    sql::run(url(&first), "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let answer = daemon.delete("/v1/db/diary?keep_data=true").await.expect(200);
    assert_eq!(answer["ok"], true);
    let volume = answer["volume_name"].as_str().expect("the volume's name");
    assert_eq!(volume, "pgdb-diary");
    assert_only(&daemon, Expected { instances: &[], volumes: &[volume] }).await;

    // A database of the same name that starts empty does not disturb it, and is kept beside it.
    let second = daemon.deploy_named("diary").await;
    sql::run(url(&second), "CREATE TABLE other AS SELECT 'second' AS text").await;
    let answer = daemon.delete("/v1/db/diary?keep_data=true").await.expect(200);
    let beside = answer["volume_name"].as_str().expect("the volume's name").to_owned();
    assert_ne!(beside, volume);
    assert_only(&daemon, Expected { instances: &[], volumes: &[volume, &beside] }).await;

    let again = daemon.deploy(json!({ "name": "diary-again", "from_volume": volume })).await;
    assert_eq!((&again["db"], &again["user"]), (&first["db"], &first["user"]));
    assert_ne!(again["password"], first["password"]);
    assert_eq!(sql::run(url(&again), "SELECT text FROM note").await, "kept");
    let twice = daemon.post("/v1/deploy", &json!({ "name": "twice", "from_volume": volume })).await;
    assert_eq!(twice.refused(409), "volume_not_found");
    let other = daemon.deploy(json!({ "name": "other", "from_volume": beside })).await;
    assert_eq!(sql::run(url(&other), "SELECT text FROM other").await, "second");
    let traversal = daemon.post("/v1/deploy", &json!({ "name": "evil", "from_volume": "../instances" })).await;
    assert!([400, 409].contains(&traversal.status), "{}", traversal.json);
    assert_nothing_left(&daemon, &["diary-again", "other"]).await;
}

async fn of_two_deploys_from_one_volume_one_gets_it_and_the_other_leaves_nothing(on: &On) {
    let daemon = on.start(BINARY).await;
    let first = daemon.deploy_named("shared").await;
    sql::run(url(&first), "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let volume = daemon.delete("/v1/db/shared?keep_data=true").await.expect(200)["volume_name"].clone();
    let request = |name: &str| json!({ "name": name, "from_volume": volume });
    let (left, right) = (request("left"), request("right"));
    let answers = tokio::join!(daemon.post("/v1/deploy", &left), daemon.post("/v1/deploy", &right));
    let (won, lost) = if answers.0.status == 200 { answers } else { (answers.1, answers.0) };
    assert!(["volume_in_use", "volume_not_found"].contains(&lost.refused(409)), "{}", lost.json);
    let won = won.expect(200);
    assert_eq!(sql::run(url(&won), "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &[won["name"].as_str().expect("a name")]).await;
}

async fn a_volume_keeps_its_name_while_a_deploy_takes_it_into_use(on: &On) {
    for goes_through in [false, true] {
        let mut daemon = on.start(BINARY).await;
        for text in ["first", "second"] {
            let mill = daemon.deploy_named("mill").await;
            sql::run(url(&mill), &format!("CREATE TABLE note AS SELECT '{text}' AS text")).await;
            if text == "first" {
                daemon.delete("/v1/db/mill?keep_data=true").await.expect(200);
            }
        }
        daemon.crash_and_restart(&[("PGDB_FAULTS", "instance.deploy/verify/hold")]).await;
        let request = json!({ "name": "taker", "from_volume": "pgdb-mill" });
        let held = daemon.post("/v1/deploy?wait=false", &request).await.expect(202);
        let id = held["id"].as_str().expect("an id");
        daemon.wait_step(id, "verify").await;
        // Its name is not free: the data comes back to it if the deploy fails.
        let kept = daemon.delete("/v1/db/mill?keep_data=true").await.expect(200);
        assert_eq!(kept["volume_name"], "pgdb-mill-2");
        if goes_through {
            daemon.crash_and_restart(&[]).await;
            assert_eq!(daemon.wait_operation(id).await["state"], "succeeded");
            assert_only(&daemon, Expected { instances: &["taker"], volumes: &["pgdb-mill-2"] }).await;
        } else {
            daemon.poke(&format!("/v1/operations/{id}/cancel")).await.expect(202);
            assert_eq!(daemon.wait_operation(id).await["state"], "undone");
            assert_only(&daemon, Expected { instances: &[], volumes: &["pgdb-mill", "pgdb-mill-2"] }).await;
            daemon.crash_and_restart(&[]).await;
            daemon.deploy(json!({ "name": "taker", "from_volume": "pgdb-mill" })).await;
        }
        daemon.deploy(json!({ "name": "other", "from_volume": "pgdb-mill-2" })).await;
        for (name, text) in [("taker", "first"), ("other", "second")] {
            assert_eq!(sql::run(url(&daemon.item(name).await), "SELECT text FROM note").await, text);
        }
        assert_nothing_left(&daemon, &["other", "taker"]).await;
        for name in ["other", "taker"] {
            daemon.destroy(name).await;
        }
    }
}

async fn a_rotated_password_takes_the_old_ones_place(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("turning").await;
    let session = sql::login(url(&deployed)).await.expect("log in");
    let rotated = daemon.poke("/v1/db/turning/rotate-password").await.expect(200);
    assert_ne!(rotated["password"], deployed["password"]);
    assert_eq!(sql::run(url(&rotated), "SELECT 1").await, "1");
    let error = sql::login(url(&deployed)).await.expect_err("the old password is refused");
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{error:?}");
    assert_eq!(daemon.item("turning").await["database_url"], rotated["database_url"]);
    assert_eq!(session.run("SELECT 2").await.expect("open sessions go on"), Some("2".to_owned()));
    drop(session);
    assert_nothing_left(&daemon, &["turning"]).await;
}

async fn a_dump_restores_what_was_there(on: &On) {
    let daemon = on.start(BINARY).await;
    let (from, to) = (daemon.deploy_named("from").await, daemon.deploy_named("into").await);
    sql::run(
        url(&from),
        "CREATE SCHEMA app; CREATE TABLE app.note (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text); \
         INSERT INTO app.note (text) SELECT 'row ' || n FROM generate_series(1, 1000) n; \
         CREATE VIEW app.last AS SELECT max(id) FROM app.note; \
         CREATE FUNCTION app.twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n'",
    )
    .await;
    let dump = daemon.get("/v1/db/from/dump").await;
    assert_eq!(dump.status, 200);
    sql::run(url(&to), "CREATE TABLE before AS SELECT 1 AS n").await;
    daemon.send(Method::POST, "/v1/db/into/restore", Body::Bytes(dump.bytes.clone())).await.expect(200);
    assert_eq!(sql::run(url(&to), "SELECT max::text || app.twice(4)::text FROM app.last").await, "10008");
    assert_eq!(sql::run(url(&to), "INSERT INTO app.note (text) VALUES ('mine') RETURNING id").await, "1001");
    let owners = "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname = 'app'";
    assert_eq!(sql::run(url(&to), owners).await, to["user"].as_str().expect("user"));
    assert_eq!(sql::run(url(&to), "SELECT count(*) FROM pg_tables WHERE tablename = 'before'").await, "0");
    // Once more over itself: the result is the same.
    daemon.send(Method::POST, "/v1/db/into/restore", Body::Bytes(dump.bytes)).await.expect(200);
    assert_eq!(sql::run(url(&to), "SELECT count(*) FROM app.note").await, "1000");
    assert_nothing_left(&daemon, &["from", "into"]).await;
}

async fn a_dump_that_fails_is_never_taken_for_a_whole_one(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("half").await;
    // It begins with what takes a second to compress, and its session ends meanwhile.
    let filling =
        "CREATE TABLE a AS SELECT n, md5(n::text) || md5((-n)::text) AS text FROM generate_series(1, 400000) n";
    sql::run(url(&deployed), filling).await;
    let session = sql::login(url(&deployed)).await.expect("log in");
    let ends = async {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'pg_dump' AND query LIKE 'COPY%'";
        while session.run(end).await.expect("ask").as_deref() == Some("0") {}
    };
    let (dump, ()) = tokio::join!(daemon.try_send(Method::GET, "/v1/db/half/dump", Body::None), ends);
    assert!(dump.is_err(), "a dump without its end was answered like a whole one");
    let why = || async { daemon.log().contains("a dump broke off").then_some(()) };
    wait::until(Duration::from_secs(10), "the log to say why", why).await;

    // One that fails before its first byte gets an error.
    sql::run(url(&deployed), "DROP TABLE a; CREATE TABLE b (n integer); REVOKE ALL ON b FROM CURRENT_USER").await;
    let answer = daemon.get("/v1/db/half/dump").await;
    assert_eq!(answer.refused(502), "tool_failed");
    assert!(answer.message().contains("permission denied"), "{}", answer.message());
    assert_nothing_left(&daemon, &["half"]).await;
}

async fn garbage_is_refused_and_the_database_stays_as_it_is(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("intact").await;
    sql::run(url(&deployed), "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let good = daemon.get("/v1/db/intact/dump").await.bytes;
    let half = good[..good.len() / 2].to_vec();
    for (what, body) in [
        ("nothing", Vec::new()),
        ("text", b"DROP TABLE note; -- plain SQL is not the custom format".to_vec()),
        ("noise", (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("half a dump", half),
    ] {
        let answer = daemon.send(Method::POST, "/v1/db/intact/restore", Body::Bytes(body)).await;
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.json);
        assert!(!answer.message().is_empty(), "{what}");
        assert_eq!(sql::run(url(&deployed), "SELECT text FROM note").await, "kept", "{what}");
        assert_nothing_left(&daemon, &["intact"]).await;
    }
    let nowhere = daemon.send(Method::POST, "/v1/db/nowhere/restore", Body::Bytes(good)).await;
    assert_eq!(nowhere.refused(404), "database_not_found");
    assert_nothing_left(&daemon, &["intact"]).await;
}

async fn a_stopped_instance_says_so_and_starts_at_the_same_place(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("napping").await;
    sql::run(url(&deployed), "CREATE TABLE note AS SELECT 'kept' AS text").await;
    daemon.poke("/v1/db/napping/stop").await.expect(200);
    daemon.poke("/v1/db/napping/stop").await.expect(200);
    assert_eq!(daemon.item("napping").await["state"], "stopped");
    assert!(sql::login(url(&deployed)).await.is_err(), "a stopped server lets people in");
    for path in ["/v1/db/napping/rotate-password", "/v1/db/napping/restore"] {
        let answer = daemon.send(Method::POST, path, Body::Bytes(b"PGDMP".to_vec())).await;
        assert_eq!(answer.refused(409), "not_running", "{path}");
        assert!(answer.message().contains("pgdb start napping"), "{}", answer.message());
    }
    assert_eq!(daemon.get("/v1/db/napping/dump").await.refused(409), "not_running");
    daemon.poke("/v1/db/napping/start").await.expect(200);
    daemon.poke("/v1/db/napping/start").await.expect(200);
    assert_eq!(sql::run(url(&deployed), "SELECT text FROM note").await, "kept");
    daemon.poke("/v1/db/napping/restart").await.expect(200);
    assert_eq!(sql::run(url(&deployed), "SELECT text FROM note").await, "kept");
    let logs = daemon.get("/v1/db/napping/logs?lines=1000").await;
    assert_eq!(logs.status, 200);
    assert!(String::from_utf8_lossy(&logs.bytes).contains("ready to accept connections"));
    daemon.poke("/v1/db/napping/stop").await.expect(200);
    daemon.destroy("napping").await;
    assert_nothing_left(&daemon, &[]).await;
}

async fn a_server_with_tls_takes_no_plain_connection(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy(json!({ "name": "sealed", "tls": true })).await;
    assert!(url(&deployed).ends_with("?sslmode=require"), "{}", url(&deployed));
    let encrypted = "SELECT ssl::text || ' ' || version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(sql::run(url(&deployed), encrypted).await, "true TLSv1.3");
    let plain = url(&deployed).replace("sslmode=require", "sslmode=disable");
    let error = sql::login(&plain).await.expect_err("a plain connection is refused");
    assert_eq!(error.code().map(|code| code.code()), Some("28000"), "{error:?}");
    daemon.poke("/v1/db/sealed/restart").await.expect(200);
    assert_eq!(sql::run(url(&deployed), encrypted).await, "true TLSv1.3");
    let unencrypted = daemon.deploy_named("plain").await;
    assert_eq!(sql::run(url(&unencrypted), "SHOW ssl").await, "off");
    assert_nothing_left(&daemon, &["sealed", "plain"]).await;
}

async fn a_destroy_ends_sessions_and_leaves_nothing(on: &On) {
    let daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("doomed").await;
    let session = sql::login(url(&deployed)).await.expect("log in");
    session.run("BEGIN; CREATE TABLE half (n integer)").await.expect("work");
    assert_eq!(daemon.destroy("doomed").await, json!({ "ok": true }));
    assert!(session.run("COMMIT").await.is_err(), "the session outlived its server");
    assert_nothing_left(&daemon, &[]).await;
    assert_eq!(daemon.delete("/v1/db/doomed").await.refused(404), "database_not_found");
    for name in ["..", "%2e%2e", "a%2fb", "x".repeat(200).as_str(), "%00abc"] {
        let answer = daemon.delete(&format!("/v1/db/{name}")).await;
        assert!([400, 404, 405].contains(&answer.status), "{name}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_token_sees_no_more_than_its_scopes() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("shown").await;
    let password = deployed["password"].as_str().expect("password");
    let make = |name: &str, scopes: Value| json!({ "name": name, "scopes": scopes });
    let reader = daemon.post("/v1/tokens", &make("reader", json!(["instances:read"]))).await.expect(201);
    let revealer =
        daemon.post("/v1/tokens", &make("revealer", json!(["instances:read", "instances:reveal"]))).await.expect(201);
    let as_reader = daemon.with_token(reader["token"].as_str().expect("a token"));
    let as_revealer = daemon.with_token(revealer["token"].as_str().expect("a token"));

    // Whoever may see more asks first and last: what is kept for one must not be served to the other.
    for _ in 0..2 {
        let shown = as_revealer.get("/v1/status").await;
        assert!(String::from_utf8_lossy(&shown.bytes).contains(password));
        for path in ["/v1/status", "/v1/db/shown"] {
            let hidden = as_reader.get(path).await;
            assert_eq!(hidden.status, 200);
            assert!(!String::from_utf8_lossy(&hidden.bytes).contains(password), "{path} shows the password");
        }
        let items = as_reader.status().await;
        assert_eq!(items[0]["password"], "");
        assert!(items[0]["database_url"].as_str().is_some_and(|url| !url.contains(':') || url.contains('@')));
    }
    for answer in [
        as_reader.post("/v1/deploy", &json!({})).await,
        as_reader.delete("/v1/db/shown").await,
        as_reader.poke("/v1/db/shown/rotate-password").await,
        as_reader.get("/v1/db/shown/dump").await,
        as_reader.get("/v1/tokens").await,
        as_reader.get("/v1/audit").await,
        as_reader.poke("/v1/keys/rotate").await,
        as_reader.post("/v1/shutdown", &json!({ "stop_databases": true })).await,
    ] {
        answer.refused(403);
    }
    daemon.delete(&format!("/v1/tokens/{}", reader["info"]["id"].as_str().expect("an id"))).await.expect(200);
    as_reader.get("/v1/status").await.refused(401);
    as_revealer.get("/v1/status").await.expect(200);
    let short = json!({ "name": "short", "scopes": ["instances:read"], "expires_in_seconds": 1 });
    let short = daemon.post("/v1/tokens", &short).await.expect(201);
    let as_short = daemon.with_token(short["token"].as_str().expect("a token"));
    let look = || async { (as_short.get("/v1/status").await.status == 401).then_some(()) };
    pgdb_testkit::wait::until(std::time::Duration::from_secs(10), "the token to expire", look).await;
    assert_nothing_left(&daemon, &["shown"]).await;
}

async fn secrets_outlive_a_new_key_and_restarts(on: &On) {
    let mut daemon = on.start(BINARY).await;
    let deployed = daemon.deploy_named("sealed").await;
    let rotated = daemon.poke("/v1/keys/rotate").await.expect(200);
    assert!(rotated["resealed"].as_u64().is_some_and(|count| count >= 1), "{rotated}");
    assert_eq!(daemon.item("sealed").await["password"], deployed["password"]);
    daemon.crash_and_restart(&[]).await;
    assert_eq!(daemon.item("sealed").await["password"], deployed["password"]);
    assert_eq!(sql::run(url(&daemon.item("sealed").await), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["sealed"]).await;
}

#[tokio::test]
async fn what_was_done_stands_in_the_audit_log() {
    let daemon = Daemon::start(BINARY).await;
    daemon.deploy_named("watched").await;
    daemon.with_token("not-a-token-of-this-daemon-0123456789").get("/v1/status").await.refused(401);
    daemon.destroy("watched").await;
    let audit = daemon.get("/v1/audit").await.expect(200);
    let entries = audit["items"].as_array().expect("items");
    let has = |action: &str, status: u64| {
        entries.iter().any(|entry| {
            entry["action"].as_str().is_some_and(|text| text.starts_with(action)) && entry["status"] == status
        })
    };
    assert!(has("POST /v1/deploy", 200), "{audit:#}");
    assert!(has("DELETE /v1/db/", 200), "{audit:#}");
    assert_nothing_left(&daemon, &[]).await;
}
