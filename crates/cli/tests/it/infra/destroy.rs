//! `pgdb infra destroy`.

use super::bed::{Bed, INIT, Ran, command};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::hetzner::Fault;
use serde_json::{Value, json};
use std::process::Stdio;

#[test]
fn the_volume_stays_unless_its_end_is_asked_for_and_is_used_again() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    let volume = bed.cloud.all("volumes")[0]["id"].clone();
    let gone = bed.run(&["infra", "destroy", "pgdb-prod", "--yes", "--json"]).document("destroy");
    assert_eq!(gone["kept"][0]["id"], volume);
    assert_eq!(gone["removed"].as_array().map(Vec::len), Some(2), "{gone}");
    assert_eq!(bed.counts(), (0, 1, 0));
    assert!(bed.journal().is_none());
    assert_eq!(std::fs::read_to_string(bed.remembered().join("known_hosts")).expect("a file"), "");
    let config = std::fs::read(bed.home.path().join(".config/pgdb/config.json")).expect("a configuration");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["servers"], json!({}), "the address will be somebody else's");

    bed.run(&INIT).document("init again");
    bed.assert_made("init again");
    assert_eq!(bed.cloud.all("volumes")[0]["id"], volume);
    let ran = bed.run(&["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"]);
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");
    assert_eq!(bed.counts(), (0, 0, 0));
    assert_eq!(bed.run(&["infra", "destroy", "pgdb-prod", "--yes"]).status, Some(1), "nothing is there any more");
}

#[test]
fn nobody_is_asked_so_nothing_is_removed() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    let ran = bed.run(&["infra", "destroy", "pgdb-prod"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("--yes"), "{ran:?}");
    bed.assert_made("still");
}

#[test]
fn what_is_protected_or_used_by_others_stays_with_all_the_rest() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    let volume = bed.cloud.all("volumes")[0]["id"].as_u64().expect("an id");
    bed.cloud.change("volumes", volume, &json!({ "protection": { "delete": true } }));
    let ran = bed.run(&["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("protected"), "{ran:?}");
    bed.assert_made("protected");

    bed.cloud.change("volumes", volume, &json!({ "protection": { "delete": false } }));
    let other = bed.cloud.add(
        "servers",
        json!({ "name": "theirs", "labels": {}, "status": "running", "public_net": { "ipv4": null },
                "server_type": { "name": "cx22" }, "location": { "name": "nbg1" } }),
    );
    bed.cloud.change("volumes", volume, &json!({ "server": other }));
    let ran = bed.run(&["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("attached to another server"), "{ran:?}");
    assert_eq!(bed.counts().1, 1);
}

#[test]
fn two_commands_on_one_server_do_not_meet() {
    let bed = Bed::new();
    bed.cloud.fail_once(0, Fault::Hold);
    let mut first = bed.waiting(&INIT, "1h").spawn().expect("pgdb runs");
    assert!(bed.cloud.wait_for_held(|| first.try_wait().expect("a child").is_some()));
    let ran = bed.run(&INIT);
    assert!(ran.status == Some(2) && ran.stderr.contains("another pgdb command is at work on 'pgdb-prod'"), "{ran:?}");
    bed.cloud.let_go();
    assert!(first.wait().expect("it ends").success());
    bed.assert_made("the first");
}

#[test]
fn an_interrupt_says_how_to_go_on() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let bed = Bed::new();
        // The server is made, and its maker does not know yet.
        bed.cloud.fail_once(13, Fault::HoldAfter);
        let mut command = bed.waiting(&INIT, "1h");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgdb runs");
        assert!(bed.cloud.wait_for_held(|| child.try_wait().expect("a child").is_some()));
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it runs");
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        assert!(ran.status == Some(1) && ran.stderr.contains("run the same command again to go on"), "{ran:?}");
        bed.cloud.mend();
        bed.run(&INIT).document("again");
        bed.assert_made("again");
    }
}

#[test]
fn help_names_the_commands_and_completions_know_them() {
    let home = tempfile::tempdir().expect("a home");
    let text = |arguments: &[&str]| {
        let output = command(home.path()).args(arguments).output().expect("pgdb runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let help = text(&["infra", "--help"]);
    for subcommand in ["init", "bootstrap", "list", "destroy"] {
        assert!(help.contains(subcommand), "{help}");
    }
    assert!(text(&["completions", "bash"]).contains("--volume-size"));
}
