//! A full disk: the data directory lies on a small file system of its own.

use super::BINARY;
use nix::sys::statvfs::statvfs;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Set for a test that was started anew inside a namespace in which it may mount.
const INSIDE: &str = "PGDB_TEST_MAY_MOUNT";
/// Room for three databases of 40 MB and a bit.
const SIZE_MB: u64 = 150;

/// A daemon, not started yet, whose data lies on a small file system. As root that is mounted here. For anybody else
/// the test is run anew in a namespace in which it may be mounted, with the own user back; then there is no daemon
/// here, and the test has passed there.
fn on_a_small_disk(test: &str) -> Option<Daemon> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        let mut daemon = Daemon::prepare(BINARY);
        daemon.place_data_in(&PathBuf::from(folder).join("data"));
        return Some(daemon);
    }
    let options = format!("size={SIZE_MB}m,mode=0755");
    if nix::unistd::geteuid().is_root() {
        let daemon = Daemon::prepare(BINARY);
        fs::create_dir(daemon.data_dir()).expect("make the folder to mount on");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(daemon.data_dir()).status();
        assert!(mounted.expect("run mount").success(), "a small file system could not be mounted");
        return Some(daemon);
    }
    let folder = tempfile::Builder::new().prefix("pgdb-small-disk-").tempdir().expect("make a folder").keep();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs \"${INSIDE}\" && \
         exec unshare --user --map-user={uid} --map-group={gid} \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(std::env::current_exe().expect("know the test's own program"));
    let output = command.args(["--exact", test, "--nocapture"]).env(INSIDE, &folder).output().expect("run unshare");
    fs::remove_dir(&folder).expect("remove the folder that was mounted on");
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "the test has failed in its namespace");
    None
}

/// Bytes that can still be written.
fn free_bytes(daemon: &Daemon) -> u64 {
    let space = statvfs(daemon.data_dir()).expect("ask for the free space");
    space.blocks_available() * space.fragment_size()
}

/// Takes up all space but `leave` bytes, until the file is removed.
fn fill(daemon: &Daemon, leave: u64) -> PathBuf {
    let path = daemon.data_dir().join("filling");
    let mut file = File::create(&path).expect("make the filling");
    let mut rest = free_bytes(daemon).saturating_sub(leave);
    while rest > 0 {
        let chunk = usize::try_from(rest.min(1 << 16)).expect("a chunk fits");
        if file.write_all(&vec![0; chunk]).is_err() {
            break;
        }
        rest -= chunk as u64;
    }
    path
}

async fn deploy_noted(daemon: &Daemon, name: &str) -> String {
    let deployed = daemon.deploy_named(name).await;
    let url = deployed["database_url"].as_str().expect("a URL").to_owned();
    sql::run(&url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    url
}

#[tokio::test]
async fn a_disk_that_is_full_during_the_copy_is_told_and_nothing_is_left() {
    let Some(mut daemon) =
        on_a_small_disk("bad_days::disk::a_disk_that_is_full_during_the_copy_is_told_and_nothing_is_left")
    else {
        return;
    };
    daemon.up(&[]).await;
    let url = deploy_noted(&daemon, "first").await;
    let filling = fill(&daemon, 6 << 20);
    let answer = daemon.post("/v1/deploy", &json!({ "name": "second" })).await;
    assert_eq!(answer.refused(503), "disk_full");
    assert!(answer.message().contains("space"), "{}", answer.message());
    assert!(daemon.is_alive());
    assert_eq!(sql::run(&url, "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &["first"]).await;
    fs::remove_file(filling).expect("free the space");
    let second = daemon.deploy_named("second").await;
    assert_eq!(sql::run(second["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["first", "second"]).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_later_moment_loses_nothing() {
    let Some(mut daemon) = on_a_small_disk("bad_days::disk::a_disk_that_fills_up_at_any_later_moment_loses_nothing")
    else {
        return;
    };
    daemon.up(&[]).await;
    let url = deploy_noted(&daemon, "first").await;
    let before = free_bytes(&daemon);
    deploy_noted(&daemon, "measured").await;
    let copy = before - free_bytes(&daemon);
    daemon.destroy("measured").await;
    assert_nothing_left(&daemon, &["first"]).await;

    let mut outcomes = BTreeMap::<String, u32>::new();
    // From too little for the copy to enough for all, so that it ends in the copy, in the start, and in what follows.
    for (number, more) in [-2048, -768, -640, -512, -400, -272, -240, 0, 1024].into_iter().enumerate() {
        let leave = copy.saturating_add_signed(more << 10);
        let filling = fill(&daemon, leave);
        let name = format!("tight-{number}");
        let begun = daemon.post("/v1/deploy?wait=false", &json!({ "name": name })).await;
        if begun.status != 202 {
            // Not even the wish could be written down.
            assert_eq!(begun.refused(503), "disk_full");
            *outcomes.entry("refused".to_owned()).or_default() += 1;
            fs::remove_file(filling).expect("free the space");
            continue;
        }
        let id = begun.json["id"].as_str().expect("an id").to_owned();
        // While the state cannot be written the operation waits for space; then it has to go on by itself.
        let ended = tokio::time::timeout(Duration::from_secs(5), daemon.wait_operation(&id)).await;
        assert!(daemon.is_alive());
        daemon.get("/v1/status").await.expect(200);
        assert_eq!(sql::run(&url, "SELECT text FROM note").await, "kept");
        fs::remove_file(filling).expect("free the space");
        let operation = match ended {
            Ok(operation) => operation,
            Err(_) => daemon.wait_operation(&id).await,
        };
        let outcome = operation["state"].as_str().expect("a state").to_owned();
        if outcome == "succeeded" {
            let item = daemon.item(&name).await;
            assert_eq!(sql::run(item["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
            assert_nothing_left(&daemon, &["first", &name]).await;
            daemon.destroy(&name).await;
        } else {
            assert_eq!(outcome, "undone", "{operation:#}");
            let message = operation["error"]["message"].as_str().unwrap_or_default();
            assert!(message.to_lowercase().contains("space"), "the error does not say why: {operation:#}");
        }
        assert_nothing_left(&daemon, &["first"]).await;
        let failed = |step: &&serde_json::Value| step["error"].is_object();
        let step =
            operation["steps"].as_array().expect("steps").iter().find(failed).map(|step| step["name"].to_string());
        eprintln!("{more} KiB more than the copy: {outcome}, {step:?} failed");
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("outcomes: {outcomes:?}");
    assert!(outcomes.contains_key("undone") && outcomes.contains_key("succeeded"), "{outcomes:?}");
    assert_eq!(sql::run(&url, "SELECT text FROM note").await, "kept");
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while_stops_no_daemon_and_no_reading() {
    let Some(mut daemon) =
        on_a_small_disk("bad_days::disk::a_disk_that_is_full_for_a_while_stops_no_daemon_and_no_reading")
    else {
        return;
    };
    daemon.up(&[]).await;
    let url = deploy_noted(&daemon, "first").await;
    let filling = fill(&daemon, 0);
    let answer = daemon.post("/v1/deploy", &json!({ "name": "second" })).await;
    assert_eq!(answer.refused(503), "disk_full");
    daemon.get("/v1/status").await.expect(200);
    assert_eq!(sql::run(&url, "SELECT text FROM note").await, "kept");
    fs::remove_file(filling).expect("free the space");
    daemon.crash_and_restart(&[]).await;
    daemon.wait_state("first", "running").await;
    daemon.deploy_named("second").await;
    assert_nothing_left(&daemon, &["first", "second"]).await;
}
