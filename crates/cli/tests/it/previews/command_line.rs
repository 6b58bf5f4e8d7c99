//! `pgdb preview …`, as people and scripts use it.

use super::bed::Bed;
use serde_json::Value;

/// Runs the command and gives back its exit status and what it printed.
fn run(bed: &Bed, arguments: &[&str]) -> (i32, String, String) {
    let mut command = bed.daemon.command();
    command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", bed.daemon.http_port()));
    let output = command.arg("preview").args(arguments).output().expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(bed: &Bed, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = run(bed, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[tokio::test]
async fn every_command_does_what_it_says() {
    let bed = Bed::start().await;
    let made = json(&bed, &["ensure", "12", "--ttl", "2h", "--label", "branch=main"]);
    bed.daemon.remember(made["app_password"].as_str().expect("a password"));
    assert_eq!((&made["created"], &made["db_name"]), (&Value::Bool(true), &Value::from("medusa_pr_12")));
    let url = made["DATABASE_URL"].as_str().expect("a URL");
    assert_eq!(pgdb_testkit::sql::run(url, "SELECT current_user").await, "medusa_pr_app_12");

    let (_, listed, _) = run(&bed, &["list"]);
    assert!(listed.contains("12") && listed.contains("ready") && !listed.contains("za_"), "{listed}");
    let (_, shown, _) = run(&bed, &["show", "12"]);
    assert!(
        shown.contains("labels: branch=main") && shown.contains("password: ***") && !shown.contains("za_"),
        "{shown}"
    );
    assert_eq!(json(&bed, &["show", "12", "--reveal"])["app_password"], made["app_password"]);
    assert_eq!(json(&bed, &["url", "12", "--reveal"])["DATABASE_URL"], url);
    let (_, masked, _) = run(&bed, &["url", "12"]);
    assert!(masked.contains(":***@"), "{masked}");
    let (code, answer, stderr) = run(&bed, &["psql", "12", "--", "-Atc", "SELECT count(*) FROM shop.orders"]);
    assert_eq!((code, answer.trim()), (0, "100"), "{stderr}");

    assert_eq!(json(&bed, &["protect", "12"])["protected"], true);
    let (code, _, stderr) = run(&bed, &["delete", "12", "--yes"]);
    assert!(code == 1 && stderr.contains("unprotect"), "{stderr}");
    assert_eq!(json(&bed, &["unprotect", "12"])["protected"], false);
    assert!(json(&bed, &["extend", "12", "never"]).get("expires_at").is_none());
    assert_eq!(json(&bed, &["reset", "12", "--yes"])["state"], "ready");
    assert_eq!(json(&bed, &["gc", "--dry-run"])["items"], Value::Array(vec![]));
    assert_eq!(json(&bed, &["delete", "12", "--yes"])["deleted"], true);
    let (code, said, _) = run(&bed, &["delete", "12", "--yes"]);
    assert!(code == 0 && said.contains("nothing to delete"), "{said}");
    assert_eq!(run(&bed, &["ensure", "x"]).0, 2, "wrong use");
    for ttl in ["0s", "soon", "1ms"] {
        for arguments in [["ensure", "12", &format!("--ttl={ttl}")], ["extend", "12", ttl]] {
            let (code, _, stderr) = run(&bed, &arguments);
            assert!(code == 2 && stderr.contains("never"), "{arguments:?}: {code} {stderr}");
        }
    }
}

#[tokio::test]
async fn the_token_for_previews_alone_is_enough_for_the_guide() {
    let token = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let mut bed = Bed::bare(None).await;
    // As a user would: the daemon has nothing but this token, and its environment is the command line's.
    bed.daemon.set_env("PGDB_TOKEN", "");
    bed = bed.prepared().await.told(&[("API_AUTH_TOKEN", token)]).await;
    let listed = |file: bool| {
        let mut command = bed.daemon.command();
        command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", bed.daemon.http_port()));
        command.env_remove("PGDB_TOKEN").env("API_AUTH_TOKEN", token);
        if !file {
            command.env("PGDB_DATA_DIR", bed.daemon.folder().join("elsewhere"));
        }
        move |arguments: &[&str]| command.args(arguments).output().expect("it runs").status.code()
    };
    assert_eq!(listed(true)(&["template", "list"]), Some(0), "with the token file, which may do everything");
    assert_eq!(listed(false)(&["preview", "list"]), Some(0), "with the token for previews");
    assert_eq!(listed(false)(&["doctor"]), Some(1), "which may do no more");
}
