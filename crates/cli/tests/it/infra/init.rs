//! `pgdb infra init` on good days, and when it is refused.

use super::bed::{Bed, INIT, Ran, command};
use pgdb_testkit::hetzner::{READ_ONLY, TOKEN};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_server_is_made_and_a_second_run_finds_it() {
    let bed = Bed::new();
    let made = bed.run(&INIT).document("the first run");
    bed.assert_made("the first run");
    assert_eq!(made["ip"], bed.cloud.all("servers")[0]["public_net"]["ipv4"]["ip"]);
    assert_eq!(made["changed"], true);
    let rules = &bed.cloud.all("firewalls")[0]["rules"];
    let doors: Vec<_> =
        rules.as_array().expect("rules").iter().map(|rule| (&rule["port"], &rule["source_ips"])).collect();
    assert_eq!(doors, [(&json!("22"), &json!(["203.0.113.0/24"])), (&json!("8080"), &json!(["203.0.113.0/24"]))]);

    bed.cloud.mend();
    let again = bed.run(&INIT).document("the second run");
    assert_eq!((&again["server_id"], &again["changed"]), (&made["server_id"], &json!(false)));
    assert!(bed.cloud.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", bed.cloud.calls());
    bed.assert_made("the second run");

    // Nothing that this machine remembers can be read by others, and none of it is the token or a private key.
    for entry in ["pgdb-prod", "pgdb-prod/journal.json", "known_hosts"] {
        let path = bed.remembered().join(entry);
        let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{entry}");
        if path.is_file() {
            let text = std::fs::read_to_string(&path).expect("text");
            assert!(!text.contains(TOKEN) && !text.contains("PRIVATE"), "{entry}");
        }
    }
    assert!(bed.cloud.user_data().contains("BEGIN OPENSSH PRIVATE KEY"));
}

#[test]
fn the_output_is_lines_for_people_and_the_rest_is_not_data() {
    let bed = Bed::new();
    let ran = bed.run(&INIT[..8]);
    let names: Vec<&str> = ran.stdout.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(names, ["name", "server_id", "volume_id", "firewall_id", "ip", "url"], "{ran:?}");
    assert!(
        ran.stderr.contains("make the server 'pgdb-prod'") && ran.stderr.contains("infra bootstrap --host"),
        "{ran:?}"
    );
}

#[test]
fn a_dry_run_tells_steps_and_price_and_changes_nothing() {
    let bed = Bed::new();
    let ran = bed.run(&[&INIT[..8], &["--dry-run"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for told in [
        "make the firewall 'pgdb-prod-firewall': SSH (tcp 22) from 203.0.113.0/24; pgdb API (tcp 8080) from 203.0.113.0/24",
        "make the volume 'pgdb-prod-data': 40 GB in nbg1, ext4",
        "make the server 'pgdb-prod': cpx21 in nbg1, ubuntu-24.04, SSH keys 1234567",
        "price: about 9.81 EUR a month without tax (server cpx21 7.55, IPv4 address 0.50, volume 40 GB 1.76)",
    ] {
        assert!(ran.stdout.contains(told), "{told}\n{ran:?}");
    }
    assert_eq!(bed.counts(), (0, 0, 0));
    assert!(!bed.home.path().join(".config").exists());
    assert!(bed.cloud.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", bed.cloud.calls());
    let document = bed.run(&[&INIT[..], &["--dry-run"]].concat()).document("with --json");
    assert_eq!((&document["price"]["monthly_net"], &document["price"]["currency"]), (&json!("9.81"), &json!("EUR")));
}

#[test]
fn what_is_missing_is_made_and_what_differs_is_mended() {
    let bed = Bed::new();
    bed.run(&INIT).document("the first run");
    let server = bed.cloud.all("servers")[0]["id"].as_u64().expect("an id");
    let volume = bed.cloud.all("volumes")[0]["id"].as_u64().expect("an id");
    let firewall = bed.cloud.all("firewalls")[0]["id"].as_u64().expect("an id");
    bed.cloud.change("servers", server, &json!({ "status": "off" }));
    bed.cloud.change("volumes", volume, &json!({ "server": null }));
    bed.cloud.change("firewalls", firewall, &json!({ "applied_to": [], "rules": [] }));
    bed.run(&INIT).document("the second run");
    bed.assert_made("the second run");
    assert_eq!(bed.cloud.all("firewalls")[0]["rules"].as_array().map(Vec::len), Some(2));

    let open = [&INIT[..8], &["--ssh-allow-cidr", "0.0.0.0/0,::/0", "--open-database-ports", "15432-15500"]].concat();
    let ran = bed.run(&open);
    assert!(ran.status == Some(0) && ran.stderr.contains("everybody in the world can reach SSH"), "{ran:?}");
    let rules = bed.cloud.all("firewalls")[0]["rules"].clone();
    assert_eq!(rules[0]["source_ips"], json!(["0.0.0.0/0", "::/0"]));
    assert_eq!((&rules[2]["port"], &rules[2]["source_ips"]), (&json!("15432-15500"), &json!(["203.0.113.0/24"])));
}

#[test]
fn another_machine_goes_on_and_knows_the_host_key() {
    let bed = Bed::new();
    bed.run(&INIT).document("here");
    std::fs::remove_dir_all(bed.home.path().join(".config")).expect("forgotten");
    assert_eq!(bed.run(&INIT).document("elsewhere")["changed"], false);
    bed.assert_made("elsewhere");
}

#[test]
fn lists_have_pages() {
    let bed = Bed::new();
    for number in 0..7 {
        let labels = json!({ "managed-by": "pgdb", "pgdb-name": format!("other-{number}") });
        let fields = json!({
            "name": format!("other-{number}-data"), "labels": labels, "size": 10, "status": "available", "server": null,
            "location": { "name": "fsn1" }, "protection": { "delete": false },
        });
        bed.cloud.add("volumes", fields);
    }
    bed.run(&INIT).document("init");
    let items = bed.run(&["infra", "list", "--json"]).document("list")["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(8), "{items}");
    let ours = items.as_array().expect("a list").iter().find(|item| item["name"] == "pgdb-prod").expect("ours");
    assert_eq!(
        (&ours["state"], &ours["location"], &ours["volume_gb"]),
        (&json!("running"), &json!("nbg1"), &json!(40))
    );
    let table = bed.run(&["infra", "list"]).stdout;
    assert!(table.starts_with("NAME") && table.contains("other-6") && table.contains("no server"), "{table}");
}

/// What was asked, and what has to be told; nothing may be made or left.
fn assert_refused(bed: &Bed, ran: &Ran, status: i32, told: &[&str]) {
    assert_eq!(ran.status, Some(status), "{ran:?}");
    assert!(ran.stdout.is_empty(), "{ran:?}");
    for text in told {
        assert!(ran.stderr.contains(text), "{text}: {ran:?}");
    }
    assert!(!ran.stderr.contains(TOKEN), "{ran:?}");
    assert_eq!(bed.counts(), (0, 0, 0), "{ran:?}");
    assert!(bed.journal().is_none());
}

#[test]
fn what_is_wrong_is_told_before_anything_is_made() {
    let bed = Bed::new();
    let with = |more: &[&'static str]| [&INIT[..8], more].concat();
    for (arguments, told) in [
        (with(&["--server-type", "cpx99"]), &["no server type 'cpx99'"][..]),
        (with(&["--server-type", "cx22", "--location", "fsn1"]), &["not to be had in 'fsn1', only in nbg1"]),
        (with(&["--ssh-key-id", "42"]), &["no SSH key '42'", "1234567 (laptop)", "7 (desktop)"]),
        (
            INIT.iter().copied().filter(|one| !["--ssh-key-id", "1234567"].contains(one)).collect(),
            &["--ssh-key-id", "laptop"],
        ),
        (with(&["--volume-size", "9"]), &["--volume-size"]),
        (with(&["--allow-cidr", "everywhere"]), &["not a block of addresses"]),
        (with(&["--location", "a/b"]), &["--location"]),
        (vec!["infra", "init", "--name", "pgdb-prod", "--ssh-key-id", "7"], &["--allow-cidr"]),
        (vec!["infra", "init", "--name", "A b", "--allow-cidr", "::/0"], &["cannot be a server's name"]),
    ] {
        assert_refused(&bed, &bed.run(&arguments), 2, told);
    }
}

#[test]
fn tokens_are_not_arguments_and_are_told_when_they_are_wrong() {
    let bed = Bed::new();
    let ran = |token: Option<&str>| {
        let mut command = bed.pgdb(&INIT);
        match token {
            Some(token) => command.env("HCLOUD_TOKEN", token),
            None => command.env_remove("HCLOUD_TOKEN"),
        };
        Ran::of(&command.output().expect("pgdb runs"))
    };
    assert_refused(&bed, &ran(None), 2, &["HCLOUD_TOKEN"]);
    assert_refused(&bed, &ran(Some("wrong")), 1, &["unauthorized", "not a valid token"]);
    assert_refused(&bed, &ran(Some(READ_ONLY)), 1, &["token_readonly", "Read & Write"]);
    assert_refused(&bed, &ran(Some("a b")), 2, &["characters that no token has"]);

    let file = bed.home.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("written");
    let mut with_file = bed.pgdb(&INIT);
    with_file.env_remove("HCLOUD_TOKEN").arg("--hcloud-token-file").arg(&file);
    assert_eq!(Ran::of(&with_file.output().expect("pgdb runs")).status, Some(0));
    // The other name of the variable, and an address that the token must not go to.
    let mut other = command(bed.home.path());
    other.env("HETZNER_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", "http://203.0.113.1/v1").args(["infra", "list"]);
    let ran = Ran::of(&other.output().expect("pgdb runs"));
    assert!(ran.status == Some(2) && ran.stderr.contains("https://"), "{ran:?}");
}

#[test]
fn things_of_others_are_never_touched() {
    for kind in ["servers", "volumes", "firewalls"] {
        let bed = Bed::new();
        let name = match kind {
            "servers" => "pgdb-prod",
            "volumes" => "pgdb-prod-data",
            _ => "pgdb-prod-firewall",
        };
        bed.cloud.add(
            kind,
            json!({
                "name": name, "labels": { "pgdb-name": "pgdb-prod" }, "rules": [], "applied_to": [], "size": 40,
                "status": "running", "server": null, "location": { "name": "nbg1" }, "server_type": { "name": "cpx21" },
                "public_net": { "ipv4": { "ip": "203.0.113.9" } },
            }),
        );
        let before = bed.cloud.all(kind);
        let ran = bed.run(&INIT);
        assert!(ran.status == Some(1) && ran.stderr.contains("pgdb did not make"), "{ran:?}");
        let ran = bed.run(&["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"]);
        assert!(ran.status == Some(1) && ran.stderr.contains("nothing of 'pgdb-prod'"), "{ran:?}");
        assert_eq!(bed.cloud.all(kind), before);
        assert_eq!(
            bed.cloud.all("servers").len() + bed.cloud.all("volumes").len() + bed.cloud.all("firewalls").len(),
            1
        );
    }
}

#[test]
fn what_is_refused_in_the_middle_is_taken_back() {
    for (kind, status, code, told) in [
        ("servers", 403, "resource_limit_exceeded", "ask the provider for a higher limit"),
        ("servers", 422, "placement_error", "try another --location"),
        ("servers", 412, "resource_unavailable", "try another --location"),
        ("volumes", 422, "no_space_left_in_location", "try another --location"),
        ("firewalls", 403, "resource_limit_exceeded", "ask the provider"),
        ("servers", 423, "locked", "try again in a minute"),
    ] {
        let bed = Bed::new();
        bed.cloud.refuse(kind, status, code);
        let ran = bed.run(&INIT);
        assert_refused(&bed, &ran, 1, &[code, told]);
        assert!(kind == "firewalls" || ran.stderr.contains("was removed again: "), "{ran:?}");
    }
    for command in ["create_server", "start_server", "create_volume"] {
        let bed = Bed::new();
        bed.cloud.fail_action(command, "action_failed");
        assert_refused(&bed, &bed.run(&INIT), 1, &["action_failed", "was removed again: "]);
    }
}

#[test]
fn a_volume_that_was_there_before_outlives_a_failure() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    bed.run(&["infra", "destroy", "pgdb-prod", "--yes"]);
    assert_eq!(bed.counts(), (0, 1, 0));
    bed.cloud.refuse("servers", 422, "placement_error");
    let ran = bed.run(&INIT);
    assert!(ran.status == Some(1) && ran.stderr.contains("removed again: firewall"), "{ran:?}");
    assert_eq!(bed.counts(), (0, 1, 0));
}

/// As if `init` had been killed just before it wrote down its end.
fn forget_the_end(bed: &Bed) {
    let mut journal = bed.journal().expect("a journal");
    journal["state"] = json!("making");
    std::fs::write(bed.remembered().join("pgdb-prod/journal.json"), journal.to_string()).expect("written");
}

#[test]
fn a_volume_of_an_interrupted_run_that_was_used_since_outlives_a_failure() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    forget_the_end(&bed);
    // Another machine went on with it, used it, and removed the server.
    let (config, aside) = (bed.home.path().join(".config"), bed.home.path().join("aside"));
    std::fs::rename(&config, &aside).expect("put aside");
    bed.run(&INIT).document("the other machine");
    assert_eq!(bed.run(&["infra", "destroy", "pgdb-prod", "--yes"]).status, Some(0));
    std::fs::remove_dir_all(&config).expect("the other machine's");
    std::fs::rename(&aside, &config).expect("put back");
    assert_eq!(bed.counts(), (0, 1, 0));

    let ran = bed.run(&[&INIT[..8], &["--server-type", "cpx99"]].concat());
    assert!(ran.status == Some(2) && ran.stderr.contains("stays: volume 'pgdb-prod-data'"), "{ran:?}");
    assert_eq!(bed.counts(), (0, 1, 0));
    let ran = bed.run(&[&INIT[..8], &["--location", "fsn1"]].concat());
    assert!(ran.status == Some(1) && ran.stderr.contains("stays: volume 'pgdb-prod-data'"), "{ran:?}");
    assert_eq!(bed.counts(), (0, 1, 0));
    bed.cloud.refuse("servers", 412, "resource_unavailable");
    let ran = bed.run(&INIT);
    assert!(ran.status == Some(1) && ran.stderr.contains("removed again: firewall"), "{ran:?}");
    assert!(ran.stderr.contains("stays: volume 'pgdb-prod-data'"), "{ran:?}");
    assert_eq!(bed.counts(), (0, 1, 0));
}

#[test]
fn a_server_of_an_interrupted_run_outlives_a_failure_whatever_its_state() {
    let bed = Bed::new();
    bed.run(&INIT).document("init");
    forget_the_end(&bed);
    let server = bed.cloud.all("servers")[0]["id"].as_u64().expect("an id");
    bed.cloud.change("servers", server, &json!({ "status": "migrating" }));
    let ran = bed.run(&INIT);
    assert!(ran.status == Some(1) && ran.stderr.contains("is migrating"), "{ran:?}");
    assert!(ran.stderr.contains("stays: server 'pgdb-prod'"), "{ran:?}");
    assert_eq!(bed.counts(), (1, 1, 1));
    bed.cloud.change("servers", server, &json!({ "status": "off" }));
    bed.cloud.fail_action("start_server", "action_failed");
    let ran = bed.run(&INIT);
    assert!(ran.status == Some(1) && ran.stderr.contains("stays: server 'pgdb-prod'"), "{ran:?}");
    assert_eq!(bed.counts(), (1, 1, 1));
}

#[test]
fn a_better_way_to_the_server_stays_the_default() {
    let bed = Bed::new();
    let set = |url: &str| {
        let mut config = command(bed.home.path());
        assert!(config.args(["config", "set", "server.default", url]).status().expect("pgdb runs").success());
    };
    let default = || {
        let text = std::fs::read(bed.home.path().join(".config/pgdb/config.json")).expect("a configuration");
        serde_json::from_slice::<serde_json::Value>(&text).expect("JSON")["servers"]["default"].clone()
    };
    // Even for a server that is new: a token would go there in clear.
    set("https://db.example.org");
    let ran = bed.run(&INIT);
    assert!(ran.stderr.contains("server.default stays https://db.example.org"), "{ran:?}");
    assert_eq!(default(), "https://db.example.org");
    // A tunnel, chosen after the server was made.
    set("http://127.0.0.1:8080");
    bed.run(&INIT).document("again");
    assert_eq!(default(), "http://127.0.0.1:8080");
    // For another server it was chosen before.
    bed.run(&["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"]);
    bed.run(&INIT).document("a new one");
    bed.assert_made("a new one");
}
