//! Servers that are killed, or keep ending.

use super::{BINARY, LIMIT, noted, wait_for_note};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::{assert_nothing_left, pgdata, postmaster_pid};
use pgdb_testkit::{sql, wait};
use std::fs;
use std::time::Duration;

fn kill9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the server");
}

#[tokio::test]
async fn a_killed_server_comes_back_by_itself() {
    let daemon = Daemon::start(BINARY).await;
    let url = noted(&daemon, "phoenix").await;
    for _ in 0..2 {
        let pid = postmaster_pid(&daemon, "phoenix");
        kill9(pid);
        // At the same URL: port, password and rows are the same.
        wait_for_note(&url).await;
        daemon.wait_state("phoenix", "running").await;
        assert_ne!(postmaster_pid(&daemon, "phoenix"), pid);
    }
    assert_nothing_left(&daemon, &["phoenix"]).await;
}

#[tokio::test]
async fn a_server_that_was_adopted_comes_back_too() {
    let mut daemon = Daemon::start(BINARY).await;
    let url = noted(&daemon, "phoenix").await;
    daemon.crash_and_restart(&[]).await;
    daemon.wait_state("phoenix", "running").await;
    kill9(postmaster_pid(&daemon, "phoenix"));
    wait_for_note(&url).await;
    daemon.wait_state("phoenix", "running").await;
    assert_nothing_left(&daemon, &["phoenix"]).await;
}

#[tokio::test]
async fn a_killed_backend_ends_no_more_than_sessions() {
    let daemon = Daemon::start(BINARY).await;
    let url = noted(&daemon, "phoenix").await;
    let session = sql::login(&url).await.expect("log in");
    let backend = session.run("SELECT pg_backend_pid()").await.expect("ask").expect("a process id");
    let server = postmaster_pid(&daemon, "phoenix");
    kill9(backend.parse().expect("a process id"));
    wait_for_note(&url).await;
    assert_eq!(postmaster_pid(&daemon, "phoenix"), server, "PostgreSQL recovers from that by itself");
    assert_nothing_left(&daemon, &["phoenix"]).await;
}

#[tokio::test]
async fn a_server_that_cannot_start_is_degraded_with_the_reason_until_it_is_mended() {
    let daemon = Daemon::start(BINARY).await;
    let url = noted(&daemon, "broken").await;
    let untouched = noted(&daemon, "untouched").await;
    // After everything that we write, so that it stands whatever we write anew.
    let file = pgdata(&daemon, "broken").join("postgresql.auto.conf");
    let good = fs::read(&file).expect("read the configuration");
    let bad = [good.as_slice(), b"\nno_such_setting = on\n"].concat();
    fs::write(&file, bad).expect("break the configuration");
    kill9(postmaster_pid(&daemon, "broken"));
    let look = || async {
        let item = daemon.item("broken").await;
        let reason = item["reason"].as_str().unwrap_or_default().to_owned();
        (item["state"] == "degraded" && reason.contains("no_such_setting")).then_some(())
    };
    wait::until(LIMIT, "the instance to be degraded because of no_such_setting", look).await;

    // Asking for a restart while it is broken is answered with the reason, too.
    let answer = daemon.poke("/v1/db/broken/restart").await;
    answer.refused(502);
    assert!(answer.message().contains("no_such_setting"), "{}", answer.message());
    assert_eq!(daemon.wait_state("broken", "degraded").await["name"], "broken");
    let logs = daemon.get("/v1/db/broken/logs").await;
    assert_eq!(logs.status, 200);
    assert!(String::from_utf8_lossy(&logs.bytes).contains("no_such_setting"), "the log does not say why");

    fs::write(&file, good).expect("mend the configuration");
    daemon.poke("/v1/db/broken/restart").await.expect(200);
    wait_for_note(&url).await;
    let item = daemon.wait_state("broken", "running").await;
    assert!(item["reason"].is_null(), "{item}");
    wait_for_note(&untouched).await;
    assert_nothing_left(&daemon, &["broken", "untouched"]).await;
}

#[tokio::test]
async fn a_server_that_keeps_ending_is_degraded_and_stays_destroyable() {
    let daemon = Daemon::start(BINARY).await;
    let url = noted(&daemon, "looping").await;
    let look = || async {
        let item = daemon.item("looping").await;
        if item["state"] == "degraded" {
            return Some(item);
        }
        // It is killed again as soon as it is back.
        if sql::login(&url).await.is_ok() {
            kill9(postmaster_pid(&daemon, "looping"));
        }
        None
    };
    let item = wait::until(Duration::from_secs(60), "a crash loop to be noticed", look).await;
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("keeps ending")), "{item}");
    daemon.poke("/v1/db/looping/restart").await.expect(200);
    wait_for_note(&url).await;
    daemon.wait_state("looping", "running").await;
    daemon.destroy("looping").await;
    assert_nothing_left(&daemon, &[]).await;
}
