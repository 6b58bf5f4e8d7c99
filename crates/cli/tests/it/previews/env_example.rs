//! `deploy/previews/.env.example` names every variable, with the default that the daemon has.

use std::collections::BTreeMap;
use std::process::Command;

const EXAMPLE: &str = include_str!("../../../../../deploy/previews/.env.example");

/// Every variable of the example with its value.
fn variables() -> BTreeMap<&'static str, &'static str> {
    let entries = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    let name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    entries.filter(|(given, _)| name(given)).collect()
}

#[test]
fn every_variable_of_the_daemon_is_in_the_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgdb")).args(["serve", "--help"]).env_clear().output();
    let help = String::from_utf8(output.expect("run it").stdout).expect("text");
    // Lines are broken anywhere between words.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let known = variables();
    let mut seen = 0;
    for (index, _) in help.match_indices("[env: ") {
        let name = help[index + "[env: ".len()..].split(['=', ']']).next().unwrap_or_default();
        assert!(known.contains_key(name), "{name} is not in the example");
        seen += 1;
        // Where the help tells a default, the example has the same.
        let before = help[..index].rsplit(" --").next().unwrap_or_default();
        if let Some(default) = before.split("[default: ").nth(1).and_then(|rest| rest.split([']', ',']).next())
            && default != "all"
        {
            assert_eq!(known[name], default, "{name}");
        }
    }
    assert!(seen >= 35, "{seen} in {help}");
    let (_, secrets) = help.split_once("never from flags: ").expect("the list of secrets");
    for name in secrets.split('.').next().unwrap_or_default().split(", ") {
        assert!(known.contains_key(name), "{name} is not in the example");
    }
}

#[test]
fn only_what_has_to_be_filled_in_is_without_a_comment() {
    let open = EXAMPLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let open: Vec<&str> = open.map(|line| line.split('=').next().unwrap_or_default()).collect();
    assert_eq!(open, ["API_AUTH_TOKEN", "PGHOST", "PGUSER", "PGPASSWORD", "DB_PREVIEW_APP_PASSWORD_SECRET"]);
    assert!(!EXAMPLE.contains('"') && !EXAMPLE.contains(" = "));
}
