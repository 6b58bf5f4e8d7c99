//! The daemon killed, started twice, or stopped: databases do not notice.

use super::BINARY;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::{self, assert_nothing_left};
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

const STARTED_AT: &str = "SELECT pg_postmaster_start_time()";

#[tokio::test]
async fn a_killed_daemon_takes_no_database_along() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    let started_at = sql::run(url, STARTED_AT).await;
    let session = sql::login(url).await.expect("log in");
    session
        .run("CREATE TEMP TABLE mine AS SELECT 42 AS answer; BEGIN; INSERT INTO mine VALUES (43)")
        .await
        .expect("work");

    daemon.kill9().await;
    assert_eq!(session.run("SELECT count(*) FROM mine").await.expect("go on"), Some("2".to_owned()));
    assert_eq!(sql::run(url, "SELECT 1").await, "1", "new sessions need no daemon");

    daemon.up(&[]).await;
    daemon.wait_state("steady", "running").await;
    session.run("COMMIT").await.expect("the session from before goes on");
    assert_eq!(session.run("SELECT max(answer) FROM mine").await.expect("go on"), Some("43".to_owned()));
    assert_eq!(sql::run(url, STARTED_AT).await, started_at, "the server was started anew");
    assert_eq!(daemon.item("steady").await["database_url"], url);
    drop(session);
    daemon.destroy("steady").await;
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn a_daemon_that_is_asked_to_end_leaves_databases_running() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    let started_at = sql::run(url, STARTED_AT).await;
    let ended = daemon.stop().await;
    assert!(ended.success(), "{ended}");
    assert_eq!(sql::run(url, STARTED_AT).await, started_at);
    daemon.up(&[]).await;
    assert_eq!(sql::run(url, STARTED_AT).await, started_at);

    // On request they are stopped too, and start again with the daemon.
    daemon.post("/v1/shutdown", &json!({ "stop_databases": true })).await.expect(202);
    let ended = daemon.ended().await;
    assert!(ended.success(), "{ended}");
    assert!(sql::login(url).await.is_err(), "the server runs on");
    assert!(pgdb_testkit::processes::all_in(daemon.data_dir()).is_empty(), "processes are left");
    daemon.up(&[]).await;
    sql::wait_for(url).await;
    daemon.wait_state("steady", "running").await;
    assert_ne!(sql::run(url, STARTED_AT).await, started_at);
    assert_nothing_left(&daemon, &["steady"]).await;
}

#[tokio::test]
async fn a_stopped_database_stays_stopped_when_the_daemon_comes_back() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("resting").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    daemon.deploy_named("working").await;
    daemon.poke("/v1/db/resting/stop").await.expect(200);
    daemon.crash_and_restart(&[]).await;
    daemon.wait_state("working", "running").await;
    assert_eq!(daemon.item("resting").await["state"], "stopped");
    assert!(sql::login(url).await.is_err(), "it was started");
    assert_nothing_left(&daemon, &["resting", "working"]).await;
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    // A port that is free and ours: the last one that databases would get.
    let port = (daemon.first_port()..).take_while(|port| daemon.owns_port(*port)).last().expect("there are ports");
    let output = daemon.fails_to_start(port, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&daemon.pid().to_string()), "{said} does not name the first one's process id");
    assert!(said.contains("daemon"), "{said}");
    assert_eq!(sql::run(deployed["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    daemon.deploy_named("another").await;
    assert_nothing_left(&daemon, &["steady", "another"]).await;
}

#[tokio::test]
async fn a_taken_address_is_told() {
    let daemon = Daemon::start(BINARY).await;
    let mut second = Daemon::prepare(BINARY);
    second.set_env("PGDB_LOG_FORMAT", "text");
    let output = second.fails_to_start(daemon.http_port(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&daemon.http_port().to_string()) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn databases_that_died_with_the_machine_come_back_with_the_daemon() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("phoenix").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    // As after a power failure: everything is gone at once, and pid files are left that name nobody.
    daemon.kill9().await;
    pgdb_testkit::processes::kill_all_in(daemon.data_dir());
    assert!(world::pgdata(&daemon, "phoenix").join("postmaster.pid").exists());
    daemon.up(&[]).await;
    sql::wait_for(url).await;
    daemon.wait_state("phoenix", "running").await;
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &["phoenix"]).await;
}

#[tokio::test]
async fn clients_that_go_away_in_the_middle_of_an_answer_end_nothing() {
    let mut daemon = Daemon::start(BINARY).await;
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(30);
    for round in 0..200 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // So that its answers do not fit, and what is left of them is refused.
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.set_linger(Some(Duration::ZERO)).expect("an end without a farewell");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, daemon.http_port()));
        socket.connect(&address.into()).expect("connect");
        let mut stream = TcpStream::from(socket);
        stream.write_all(requests.as_bytes()).expect("send requests");
        // Sooner and later in the answers.
        let mut read = vec![0; 512 * (round % 10)];
        stream.read_exact(&mut read).expect("the beginning of an answer");
        stream.shutdown(Shutdown::Write).expect("no more requests");
    }
    assert_eq!(daemon.get("/healthz").await.status, 200);
    assert!(daemon.is_alive());
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn a_daemon_whose_log_nobody_reads_goes_on() {
    let daemon = Daemon::prepare(BINARY);
    let address = format!("127.0.0.1:{}", daemon.http_port());
    let mut command = daemon.command();
    command.args(["serve", "--listen", &address]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start the daemon");
    BufReader::new(child.stderr.take().expect("its log")).read_line(&mut String::new()).expect("a line of its log");
    let is_ready = || async {
        let answer = daemon.try_send(Method::GET, "/readiness", Body::None).await;
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    };
    wait::until(Duration::from_secs(30), "the daemon to be ready", is_ready).await;
    daemon.deploy_named("steady").await;
    daemon.destroy("steady").await;
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("ask it to end");
    assert!(child.wait().expect("it ends").success());
}

#[tokio::test]
async fn an_upload_that_died_with_the_daemon_is_swept_away() {
    let mut daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("steady").await;
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.http_port())).expect("connect");
    write!(
        stream,
        "POST /v1/db/steady/restore HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\nPGDMP and then not the rest",
        daemon.token()
    )
    .expect("send half a request");
    let spool = daemon.data_dir().join("spool");
    let look = || async { fs::read_dir(&spool).ok()?.next().map(drop) };
    wait::until(Duration::from_secs(10), "the upload to begin", look).await;
    daemon.crash_and_restart(&[]).await;
    drop(stream);
    assert_eq!(sql::run(deployed["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["steady"]).await;
}
