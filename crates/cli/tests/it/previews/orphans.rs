//! What no record accounts for is found, and treated as somebody says.

use super::bed::Bed;
use pgdb_testkit::{sql, wait};
use serde_json::{Value, json};
use std::time::Duration;

/// Leaves behind what crashes and people leave behind.
async fn litter(bed: &Bed) {
    bed.ensure(1).await;
    bed.ensure(2).await;
    for number in [50, 51] {
        sql::run(
            &bed.operator_url("postgres"),
            &format!("CREATE DATABASE medusa_pr_{number} TEMPLATE template_medusa"),
        )
        .await;
    }
    sql::run(&bed.operator_url("postgres"), "CREATE DATABASE medusa_pr_pool_abcd1234 TEMPLATE template_medusa").await;
    bed.admin("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'medusa_pr_51'").await;
    bed.admin("CREATE ROLE medusa_pr_app_60; GRANT medusa_pr_app_60 TO zane_operator WITH ADMIN OPTION").await;
    bed.admin("DROP DATABASE medusa_pr_2 WITH (FORCE)").await;
    // Names that only look like ours.
    bed.admin("CREATE DATABASE medusa_pr_important").await;
    bed.admin("CREATE DATABASE medusa_pr_007").await;
}

fn kinds(found: &Value) -> Vec<(String, String, String)> {
    let text = |item: &Value, field: &str| item[field].as_str().expect(field).to_owned();
    let items = found["items"].as_array().expect("items").iter();
    items.map(|item| (text(item, "kind"), text(item, "name"), text(item, "action"))).collect()
}

fn expected(action: &str) -> Vec<(String, String, String)> {
    let all = [
        ("database", "medusa_pr_50"),
        ("invalid_database", "medusa_pr_51"),
        ("database", "medusa_pr_pool_abcd1234"),
        ("role", "medusa_pr_app_60"),
        ("record", "medusa_pr_2"),
    ];
    all.map(|(kind, name)| (kind.to_owned(), name.to_owned(), action.to_owned())).to_vec()
}

#[tokio::test]
async fn orphans_are_reported_and_removed_when_asked() {
    let bed = Bed::start().await;
    litter(&bed).await;
    let before = bed.leftovers().await;
    assert_eq!(kinds(&bed.daemon.get("/v1/previews/orphans").await.expect(200)), expected("reported"));
    assert_eq!(kinds(&bed.daemon.poke("/v1/previews/gc?dry_run=true").await.expect(200)), expected("removed"));
    assert_eq!(bed.leftovers().await, before, "looking changes nothing");
    assert_eq!(kinds(&bed.daemon.poke("/v1/previews/gc").await.expect(200)), expected("removed"));
    assert_eq!(bed.leftovers().await, "medusa_pr_007 medusa_pr_1 medusa_pr_app_1 medusa_pr_important");
    assert_eq!(kinds(&bed.daemon.get("/v1/previews/orphans").await.expect(200)), []);
    assert_eq!(bed.ensure(1).await["created"], false, "what is known is left alone");
    assert_eq!(bed.ensure(2).await["created"], true);
}

#[tokio::test]
async fn a_role_that_has_to_stay_is_not_said_to_be_gone() {
    let bed = Bed::start().await;
    bed.ensure(1).await;
    bed.admin("CREATE ROLE medusa_pr_app_60; GRANT medusa_pr_app_60 TO zane_operator WITH ADMIN OPTION").await;
    bed.admin("CREATE DATABASE elsewhere; ").await;
    bed.admin("GRANT CONNECT ON DATABASE elsewhere TO medusa_pr_app_60").await;
    let found = bed.daemon.poke("/v1/previews/gc").await.expect(200);
    assert_eq!(
        (&found["items"][0]["name"], &found["items"][0]["action"]),
        (&json!("medusa_pr_app_60"), &json!("kept"))
    );
    assert!(found["items"][0]["message"].as_str().is_some_and(|why| why.contains("elsewhere")), "{found:#}");
}

#[tokio::test]
async fn orphans_are_adopted_where_that_is_configured() {
    let mut bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MAX", "0"), ("PGDB_PREVIEW_ORPHANS", "adopt")]).await;
    litter(&bed).await;
    // A daemon looks for them when it starts.
    bed.daemon.crash_and_restart(&[]).await;
    let look = || async {
        let answer = bed.daemon.get("/v1/previews/-/50").await;
        (answer.status == 200 && answer.json["state"] == "ready").then_some(answer.json)
    };
    wait::until(Duration::from_secs(30), "the adoption", look).await;
    let adopted = bed.ensure(50).await;
    assert_eq!(adopted["created"], json!(false));
    assert_eq!(sql::run(&bed.app_url(&adopted), "SELECT count(*) FROM shop.orders").await, "100");
    let gone = || async { (!bed.leftovers().await.contains("pool_")).then_some(()) };
    wait::until(Duration::from_secs(30), "what cannot be adopted to go", gone).await;
    assert!(bed.leftovers().await.contains("medusa_pr_important"));
}
