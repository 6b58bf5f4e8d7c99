//! How long previews live, how many there may be, and what is protected.

use super::bed::Bed;
use pgdb_testkit::wait;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn what_has_expired_is_deleted_and_what_is_protected_is_not() {
    let bed = Bed::start().await;
    let template = "/v1/previews/template_medusa";
    for number in [1, 2, 3] {
        bed.ensure(number).await;
    }
    bed.daemon.poke(&format!("{template}/2/protect")).await.expect(200);
    let stays = bed.daemon.post(&format!("{template}/3/extend"), &json!({ "ttl": "1h" })).await.expect(200);
    assert!(stays["expires_at"].is_string(), "{stays:#}");
    for number in [1, 2] {
        let shown = bed.daemon.post(&format!("{template}/{number}/extend"), &json!({ "ttl": "1s" })).await.expect(200);
        assert_eq!(shown["number"], number);
    }
    let look =
        || async { (bed.leftovers().await == "medusa_pr_2 medusa_pr_3 medusa_pr_app_2 medusa_pr_app_3").then_some(()) };
    wait::until(Duration::from_secs(30), "the sweeper", look).await;
    bed.daemon.get(&format!("{template}/1")).await.refused(404);

    assert_eq!(bed.daemon.delete("/v1/preview-db/2").await.refused(423), "protected");
    assert_eq!(bed.daemon.poke(&format!("{template}/2/reset")).await.refused(423), "protected");
    bed.daemon.poke(&format!("{template}/2/unprotect")).await.expect(200);
    assert_eq!(bed.delete(2).await["deleted"], true);
}

#[tokio::test]
async fn there_may_be_so_many_and_no_more() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_MAX", "2"), ("PGDB_PREVIEW_POOL_MAX", "0")]).await;
    bed.ensure(1).await;
    bed.ensure(2).await;
    let refused = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 3 })).await;
    assert_eq!(refused.refused(409), "preview_limit");
    assert!(refused.message().contains("PGDB_PREVIEW_MAX"), "{}", refused.message());
    assert_eq!(bed.ensure(2).await["created"], false, "those that are there are found");
    bed.delete(1).await;
    assert_eq!(bed.ensure(3).await["created"], true);
}

#[tokio::test]
async fn a_reset_makes_a_preview_anew_under_the_same_password() {
    let bed = Bed::start().await;
    let made = bed.ensure(4).await;
    let url = bed.app_url(&made);
    pgdb_testkit::sql::run(&url, "DELETE FROM shop.orders").await;
    let reset = bed.daemon.poke("/v1/previews/-/4/reset").await.expect(200);
    assert_eq!((reset["state"].as_str(), &reset["app_password"]), (Some("ready"), &made["app_password"]));
    assert_eq!(pgdb_testkit::sql::run(&url, "SELECT count(*) FROM shop.orders").await, "100");
    bed.daemon.poke("/v1/previews/-/5/reset").await.refused(404);
    let other = bed.daemon.get("/v1/previews/other/4").await;
    assert_eq!(other.refused(404), "preview_not_found");
    assert!(other.message().contains("`pgdb preview ensure 4 --template other`"), "{}", other.message());
}

#[tokio::test]
async fn labels_and_a_ttl_come_with_an_ensure() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_TTL", "14d")]).await;
    let body = json!({ "pr_number": 6, "ttl": "never", "labels": { "branch": "feature" } });
    bed.daemon.post("/v1/preview-db/ensure", &body).await.expect(200);
    let shown = bed.daemon.get("/v1/previews/-/6").await.expect(200);
    assert_eq!((&shown["labels"]["branch"], shown.get("expires_at")), (&json!("feature"), None));
    // What a workflow does with every push.
    bed.ensure(6).await;
    assert_eq!(bed.daemon.get("/v1/previews/-/6").await.expect(200).get("expires_at"), None, "never stays never");
    bed.ensure(7).await;
    assert!(bed.daemon.get("/v1/previews/-/7").await.expect(200)["expires_at"].is_string(), "the default counts");
    bed.daemon.post("/v1/previews/-/7/extend", &json!({ "ttl": "never" })).await.expect(200);
    bed.ensure(7).await;
    assert_eq!(bed.daemon.get("/v1/previews/-/7").await.expect(200).get("expires_at"), None);
}

#[tokio::test]
async fn a_ttl_of_its_own_outlives_an_ensure_that_names_none() {
    let bed = Bed::start().await;
    bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 8, "ttl": "14d" })).await.expect(200);
    let before = bed.daemon.get("/v1/previews/-/8").await.expect(200)["expires_at"].clone();
    bed.ensure(8).await;
    assert!(before.is_string());
    assert_eq!(bed.daemon.get("/v1/previews/-/8").await.expect(200)["expires_at"], before, "there is no default");
}

#[tokio::test]
async fn protected_names_are_left_alone_by_everything() {
    let mut bed = Bed::start().await;
    let ensured = bed.ensure(66).await;
    bed.daemon.stop().await;
    bed.daemon.set_env("DB_PROTECTED_NAMES", "precious, MEDUSA_PR_66");
    bed.daemon.up(&[]).await;
    assert_eq!(bed.daemon.delete("/v1/preview-db/66").await.refused(423), "protected");
    assert_eq!(bed.daemon.poke("/v1/previews/-/66/reset").await.refused(423), "protected");
    let again = bed.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": 66, "ttl": "1s" })).await;
    assert_eq!(again.refused(423), "protected");
    assert_eq!(pgdb_testkit::sql::run(&bed.app_url(&ensured), "SELECT count(*) FROM shop.orders").await, "100");
}
