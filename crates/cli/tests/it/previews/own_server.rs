//! Previews on the instance that the daemon deploys for them where it was told of no server.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use reqwest::Method;
use serde_json::{Value, json};

const SERVER: &str = "previews";

async fn start() -> Daemon {
    let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_pgdb"));
    daemon.set_env("PGDB_PREVIEW_POOL_MAX", "0");
    daemon.up(&[]).await;
    daemon
}

/// Makes the template, and with it the instance.
async fn build(daemon: &Daemon) {
    let files = json!({ "files": [{ "name": "001_items.sql", "sql": "CREATE TABLE public.items AS SELECT 7 AS n" }] });
    daemon.post("/v1/templates/template_medusa/build", &files).await.expect(200);
}

async fn ensure(daemon: &Daemon, number: u64) -> Value {
    let answer = daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": number })).await.expect(200);
    daemon.remember(answer["app_password"].as_str().expect("a password"));
    answer
}

/// Runs a command; exit status, standard output, standard error.
fn run(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let mut command = daemon.command();
    command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", daemon.http_port()));
    let output = command.args(arguments).output().expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

async fn listed(daemon: &Daemon, path: &str) -> usize {
    daemon.get(path).await.expect(200)["items"].as_array().expect("items").len()
}

#[tokio::test]
async fn a_destroy_tells_what_goes_with_the_server_and_leaves_no_ghosts() {
    let daemon = start().await;
    build(&daemon).await;
    for number in [5, 12] {
        ensure(&daemon, number).await;
    }
    let (_, shown, _) = run(&daemon, &["show", SERVER]);
    assert!(shown.contains("previews: medusa_pr_5, medusa_pr_12\ntemplates: template_medusa\n"), "{shown}");

    // What somebody has locked does not go by the way.
    daemon.poke("/v1/previews/-/12/protect").await.expect(200);
    let (code, _, stderr) = run(&daemon, &["destroy", SERVER, "--yes"]);
    assert!(code == 1 && stderr.contains("protected: medusa_pr_12; run `pgdb preview unprotect"), "{stderr}");
    assert_eq!(daemon.delete(&format!("/v1/db/{SERVER}")).await.refused(423), "protected");
    daemon.poke("/v1/previews/-/12/unprotect").await.expect(200);
    assert_eq!(run(&daemon, &["template", "lock", "template_medusa"]).0, 0);
    let (code, _, stderr) = run(&daemon, &["destroy", SERVER, "--yes"]);
    assert!(code == 1 && stderr.contains("locked: template_medusa; run `pgdb template unlock"), "{stderr}");
    assert_eq!(daemon.delete(&format!("/v1/db/{SERVER}")).await.refused(423), "protected");
    assert_eq!(run(&daemon, &["template", "unlock", "template_medusa"]).0, 0);

    let (code, stdout, stderr) = run(&daemon, &["destroy", SERVER, "--yes"]);
    assert_eq!((code, stdout.as_str()), (0, "destroyed: previews\n"), "{stderr}");
    assert!(
        stderr.contains("gone with it: 2 previews (medusa_pr_5, medusa_pr_12) and template template_medusa\n"),
        "{stderr}"
    );
    // At once: it is one commit with the end of the instance.
    assert_eq!((listed(&daemon, "/v1/previews").await, listed(&daemon, "/v1/templates").await), (0, 0));
    for arguments in [&["preview", "psql", "5"][..], &["preview", "show", "5"], &["preview", "reset", "5", "--yes"]] {
        let (code, _, stderr) = run(&daemon, arguments);
        let told = "there is no preview medusa_pr_5; `pgdb preview ensure 5` makes it";
        assert!(code == 1 && stderr.contains(told), "{arguments:?}: {stderr}");
    }
    let (code, stdout, _) = run(&daemon, &["preview", "delete", "12", "--yes"]);
    assert!(code == 0 && stdout.contains("nothing to delete"), "{stdout}");

    // The same number again is another preview, and the only one.
    build(&daemon).await;
    let again = ensure(&daemon, 5).await;
    assert_eq!((&again["created"], listed(&daemon, "/v1/previews").await), (&json!(true), 1));
    let shown = daemon.get("/v1/previews/-/5").await.expect(200);
    assert_eq!(sql::run(shown["database_url"].as_str().expect("a URL"), "SELECT n FROM items").await, "7");
}

#[tokio::test]
async fn data_that_is_kept_is_a_volume_and_no_preview() {
    let daemon = start().await;
    build(&daemon).await;
    let before = ensure(&daemon, 5).await;
    let (code, stdout, stderr) = run(&daemon, &["destroy", SERVER, "--keep-data", "--yes"]);
    assert_eq!((code, stdout.as_str()), (0, "destroyed: previews\nkept: pgdb-previews\n"), "{stderr}");
    assert!(stderr.contains("forgotten with it: preview medusa_pr_5 and template template_medusa\n"), "{stderr}");
    assert_eq!(listed(&daemon, "/v1/previews").await, 0);

    // Deployed again from it the databases are found, and an ensure takes its own into use as it is.
    daemon.deploy(json!({ "name": SERVER, "from_volume": "pgdb-previews" })).await;
    let again = ensure(&daemon, 5).await;
    assert_eq!((&again["created"], &again["db_name"]), (&json!(false), &before["db_name"]));
    let shown = daemon.get("/v1/previews/-/5").await.expect(200);
    assert_eq!(sql::run(shown["database_url"].as_str().expect("a URL"), "SELECT n FROM items").await, "7");
}

#[tokio::test]
async fn what_needs_the_server_waits_for_its_end_and_has_another_one() {
    let daemon = start().await;
    build(&daemon).await;
    ensure(&daemon, 5).await;
    let id = daemon.get(&format!("/v1/db/{SERVER}")).await.expect(200)["container_id"].clone();
    let body = pgdb_testkit::api::Body::None;
    let begun = daemon.send(Method::DELETE, &format!("/v1/db/{SERVER}?wait=false"), body).await.expect(202);
    build(&daemon).await;
    assert_eq!(daemon.wait_operation(begun["id"].as_str().expect("an id")).await["state"], "succeeded");
    assert_ne!(daemon.get(&format!("/v1/db/{SERVER}")).await.expect(200)["container_id"], id);
    assert_eq!((listed(&daemon, "/v1/previews").await, &ensure(&daemon, 5).await["created"]), (0, &json!(true)));
}
