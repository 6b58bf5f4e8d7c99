//! What is said of templates, taken back, and forgotten.

use super::bed::Bed;
use pgdb_testkit::api::Body;
use pgdb_testkit::sql;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

const PATH: &str = "/v1/templates/shop";

/// Runs `pgdb template …` and gives back its exit status and what it printed.
fn run(bed: &Bed, arguments: &[&str]) -> (i32, String, String) {
    let mut command = bed.daemon.command();
    command.env("PGDB_SERVER_URL", format!("http://127.0.0.1:{}", bed.daemon.http_port()));
    let output = command.arg("template").args(arguments).output().expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn write(folder: &Path, name: &str, sql: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, sql).expect("a file");
}

/// Databases and roles called after the template.
async fn of_shop(bed: &Bed) -> String {
    bed.admin(
        "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
             SELECT datname AS name FROM pg_database WHERE datname LIKE 'shop%'
             UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'shop%') all_names",
    )
    .await
}

async fn define(bed: &Bed, definition: Value) -> Value {
    bed.daemon.send(Method::PUT, PATH, Body::Json(definition)).await.expect(200)
}

#[tokio::test]
async fn what_was_said_can_be_taken_back() {
    let bed = Bed::start().await;
    let url = "postgres://reader:hunter2@127.0.0.1:1/x?sslmode=disable";
    let all = json!({
        "source_url": url, "admin_url": url, "mask": "SELECT 1", "checks": ["SELECT true"], "exclude_table_data": ["a"],
    });
    let said = define(&bed, all).await;
    assert_eq!((&said["masked"], &said["checks"]), (&json!(true), &json!(["SELECT true"])));
    assert!(said["source"].as_str().is_some_and(|source| source.contains("reader")), "{said}");
    let (code, stdout, stderr) = run(
        &bed,
        &["define", "shop", "--no-source", "--no-admin", "--no-mask", "--no-checks", "--no-excludes", "--json"],
    );
    assert_eq!(code, 0, "{stderr}");
    let left: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        (&left["source"], &left["masked"], &left["checks"], &left["exclude_table_data"]),
        (&Value::Null, &json!(false), &json!([]), &json!([]))
    );
    assert_eq!(bed.daemon.poke(&format!("{PATH}/refresh")).await.refused(409), "template_source_missing");
    let state = rusqlite::Connection::open(bed.daemon.state_file()).expect("the state file");
    let sealed = "SELECT count(source_url) + count(admin_url) FROM template_definitions";
    assert_eq!(state.query_row(sealed, [], |row| row.get::<_, i64>(0)).expect("a count"), 0);
}

#[tokio::test]
async fn a_lock_is_of_something_and_is_not_lost() {
    let bed = Bed::start().await;
    // Several first calls at once make one row, and none takes back what another one says.
    let defines = (1..=8).map(|jobs| define(&bed, json!({ "jobs": jobs })));
    futures::future::join_all(defines).await;
    for round in 0..10 {
        let lock = format!("{PATH}/lock");
        let locks = bed.daemon.poke(&lock);
        let changes = futures::future::join_all((1..=4).map(|jobs| define(&bed, json!({ "jobs": jobs }))));
        let (locked, _) = tokio::join!(locks, changes);
        locked.expect(200);
        assert_eq!(bed.daemon.get(PATH).await.expect(200)["locked"], true, "in round {round}");
        bed.daemon.poke(&format!("{PATH}/unlock")).await.expect(200);
    }
    assert_eq!(bed.daemon.poke("/v1/templates/nonsense/lock").await.refused(404), "template_not_found");
}

#[tokio::test]
async fn one_instance_that_is_stopped_does_not_hide_the_others() {
    let bed = Bed::start().await;
    bed.ensure(1).await;
    bed.daemon.deploy_named("other").await;
    let files = json!({ "files": [{ "name": "1.sql", "sql": "CREATE TABLE t (n integer)" }] });
    bed.daemon.post("/v1/templates/shop/build?on=other", &files).await.expect(200);
    bed.daemon.poke("/v1/db/other/stop").await.expect(200);
    let list = bed.daemon.get("/v1/templates").await.expect(200);
    let items = list["items"].as_array().expect("items");
    let find =
        |name: &str| items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("{name}: {list:#}"));
    assert_eq!((&find("template_medusa")["exists"], find("template_medusa").get("problem")), (&json!(true), None));
    assert!(find("shop")["problem"].as_str().is_some_and(|why| why.contains("pgdb start other")), "{list:#}");
    let (code, stdout, stderr) = run(&bed, &["list"]);
    assert!(code == 0 && stdout.contains("unknown") && stderr.contains("pgdb start other"), "{stdout}{stderr}");
}

#[tokio::test]
async fn a_folder_is_built_and_the_template_is_deleted() {
    let bed = Bed::start().await;
    let folder = bed.daemon.folder().join("migrations");
    write(&folder, "é.sql", "CREATE TABLE IF NOT EXISTS t (n integer)");
    write(&folder, "app/001.sql", "CREATE TABLE t (n integer)");
    let seed = bed.daemon.folder().join("fill.sql");
    std::fs::write(&seed, "INSERT INTO t VALUES (1), (2)").expect("a file");
    let (folder_text, seed_text) = (folder.to_str().expect("UTF-8"), seed.to_str().expect("UTF-8"));
    let build = ["build", "shop", "--migrations", folder_text, "--seed", seed_text];
    let (code, stdout, stderr) = run(&bed, &build);
    assert!(code == 0 && stdout.contains("shop: ready"), "{stdout}{stderr}");
    let (code, stdout, _) = run(&bed, &build);
    assert!(code == 0 && stdout.contains("shop: unchanged"), "{stdout}");
    assert_eq!(run(&bed, &[&build[..], &["--force"]].concat()).0, 0);

    let made = bed.daemon.post("/v1/preview-db/ensure?template=shop", &json!({ "pr_number": 1 })).await.expect(200);
    bed.daemon.remember(made["app_password"].as_str().expect("a password"));
    assert_eq!(sql::run(&bed.app_url(&made), "SELECT count(*) FROM t").await, "2");
    let refused = bed.daemon.delete(PATH).await;
    assert_eq!(refused.refused(409), "template_in_use");
    bed.daemon.delete("/v1/preview-db/1?template=shop").await.expect(200);
    bed.daemon.poke("/v1/previews/shop/warm").await;
    bed.daemon.poke(&format!("{PATH}/lock")).await.expect(200);
    assert_eq!(bed.daemon.delete(PATH).await.refused(423), "protected");
    bed.daemon.poke(&format!("{PATH}/unlock")).await.expect(200);
    bed.admin("CREATE DATABASE shop_staging_20200101000000_old OWNER zane_operator IS_TEMPLATE true").await;
    bed.admin("CREATE DATABASE shop_staging_notes OWNER zane_operator").await;
    let (code, stdout, stderr) = run(&bed, &["delete", "shop", "--yes"]);
    assert!(code == 0 && stdout.contains("shop: deleted"), "{stdout}{stderr}");
    assert_eq!(of_shop(&bed).await, "shop_staging_notes", "what is not ours stays");
    assert_eq!(bed.daemon.get(PATH).await.refused(404), "template_not_found");
    assert_eq!(bed.daemon.delete(PATH).await.refused(404), "template_not_found");

    // What never came to be can be forgotten, and what only has its name is nobody's to drop.
    bed.admin("CREATE DATABASE shop OWNER zane_operator").await;
    define(&bed, json!({ "source_url": "postgres://a:b@127.0.0.1:1/x?sslmode=disable" })).await;
    assert_eq!(bed.daemon.delete(PATH).await.expect(200)["dropped"], false);
    assert_eq!(of_shop(&bed).await, "shop shop_staging_notes");
    assert_eq!(
        bed.daemon.post("/v1/preview-db/ensure?template=-", &json!({ "pr_number": 9 })).await.expect(200)["created"],
        true
    );
}
