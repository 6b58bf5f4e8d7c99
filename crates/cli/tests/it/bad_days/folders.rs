//! Folders that are not what they should be.

use super::BINARY;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::{assert_nothing_left, pgdata, postmaster_pid};
use pgdb_testkit::{sql, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[tokio::test]
async fn a_data_dir_that_is_a_file_is_refused() {
    let daemon = Daemon::prepare(BINARY);
    fs::write(daemon.data_dir(), "somebody's file").expect("write a file");
    let output = daemon.fails_to_start(daemon.http_port(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&daemon.data_dir().display().to_string()), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(fs::read_to_string(daemon.data_dir()).expect("it is still there"), "somebody's file");
}

#[tokio::test]
async fn somebody_elses_folder_in_the_place_of_an_instance_is_never_touched() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("mine").await;
    let strange = daemon.data_dir().join("instances").join("not-ours");
    fs::create_dir(&strange).expect("make a folder");
    fs::write(strange.join("letter"), "do not lose me").expect("write a file");
    daemon.destroy("mine").await;
    daemon.deploy_named("mine").await;
    assert_eq!(fs::read_to_string(strange.join("letter")).expect("it is still there"), "do not lose me");
    let report = daemon.get("/v1/doctor").await.expect(200);
    let findings = report["findings"].as_array().expect("findings");
    let told = findings.iter().any(|finding| finding["message"].as_str().is_some_and(|text| text.contains("not-ours")));
    assert!(told, "doctor does not mention the folder: {report:#}");
    fs::remove_dir_all(&strange).expect("take the folder away");
    assert_ne!(deployed["password"], daemon.item("mine").await["password"], "a new database has a new password");
    assert_nothing_left(&daemon, &["mine"]).await;
}

#[tokio::test]
async fn data_with_wrong_permissions_is_told_and_nothing_is_lost() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("exposed").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    daemon.poke("/v1/db/exposed/stop").await.expect(200);
    let data = pgdata(&daemon, "exposed");
    let good = fs::metadata(&data).expect("look at the data").permissions();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("open the data to everybody");
    let answer = daemon.poke("/v1/db/exposed/start").await;
    assert!(
        [409, 502].contains(&answer.status),
        "the server was started on data that everybody may write: {}",
        answer.json
    );
    assert!(answer.message().contains("permissions"), "{}", answer.message());
    let item = daemon.wait_state("exposed", "degraded").await;
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("permissions")), "{item}");
    fs::set_permissions(&data, good).expect("close it again");
    daemon.poke("/v1/db/exposed/start").await.expect(200);
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &["exposed"]).await;
}

#[tokio::test]
async fn data_that_is_gone_is_told_and_taken_back_when_it_is_there_again() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("moved").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let server = postmaster_pid(&daemon, "moved");
    let data = pgdata(&daemon, "moved");
    let elsewhere = daemon.folder().join("elsewhere");
    fs::rename(&data, &elsewhere).expect("move the data away");
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("kill the server");
    let item = daemon.wait_state("moved", "degraded").await;
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("gone")), "{item}");
    fs::rename(&elsewhere, &data).expect("put the data back");
    daemon.poke("/v1/db/moved/start").await.expect(200);
    let look = || async { sql::login(url).await.ok()?.run("SELECT text FROM note").await.ok() };
    let note = wait::until(Duration::from_secs(30), "the note", look).await;
    assert_eq!(note.as_deref(), Some("kept"));
    daemon.wait_state("moved", "running").await;
    assert_nothing_left(&daemon, &["moved"]).await;
}
