//! Templates beside the configured one: each has previews, a pool and orphans under names of its own.

use super::bed::Bed;
use pgdb_testkit::api::Body;
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Makes the template `shop`, with seven rows.
async fn build_shop(bed: &Bed) {
    let files = json!({ "files": [{
        "name": "001_items.sql",
        "sql": "CREATE TABLE public.items AS SELECT generate_series(1, 7) AS n",
    }] });
    bed.daemon.post("/v1/templates/shop/build", &files).await.expect(200);
}

async fn ensure_of_shop(bed: &Bed, number: u64) -> Value {
    let answer =
        bed.daemon.post("/v1/preview-db/ensure?template=shop", &json!({ "pr_number": number })).await.expect(200);
    bed.daemon.remember(answer["app_password"].as_str().expect("a password"));
    answer
}

/// Databases and roles that are called after `shop`, without the template's own.
async fn of_shop(bed: &Bed) -> String {
    bed.admin(
        "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
             SELECT datname AS name FROM pg_database WHERE datname LIKE 'shop\\_pr\\_%'
             UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'shop\\_pr\\_%') all_names",
    )
    .await
}

#[tokio::test]
async fn one_number_has_a_preview_of_every_template() {
    let bed = Bed::start().await;
    build_shop(&bed).await;
    let (medusa, shop) = (bed.ensure(7).await, ensure_of_shop(&bed, 7).await);
    assert_eq!(
        (&shop["db_name"], &shop["app_user"], &shop["created"]),
        (&json!("shop_pr_7"), &json!("shop_pr_app_7"), &json!(true))
    );
    assert_eq!(ensure_of_shop(&bed, 7).await["created"], false);
    assert_eq!(sql::run(&bed.app_url(&shop), "SELECT count(*) FROM items").await, "7");
    assert_eq!(sql::run(&bed.app_url(&medusa), "SELECT count(*) FROM shop.orders").await, "100");
    for (ensured, own, other) in [(&shop, "shop_pr_7", "medusa_pr_7"), (&medusa, "medusa_pr_7", "shop_pr_7")] {
        let url = bed.app_url(ensured).replace(&format!("/{own}?"), &format!("/{other}?"));
        let error = sql::login(&url).await.expect_err("isolated");
        assert!(sql::explain(&error).contains("permission denied for database"), "{}", sql::explain(&error));
    }

    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["db_name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&bed.daemon.get("/v1/previews").await.expect(200)).len(), 2);
    assert_eq!(names(&bed.daemon.get("/v1/previews?template=shop").await.expect(200)), ["shop_pr_7"]);
    assert_eq!(names(&bed.daemon.get("/v1/previews?template=-").await.expect(200)), ["medusa_pr_7"]);
    assert_eq!(bed.daemon.get("/v1/previews/shop/7").await.expect(200)["template"], "shop");
    assert_eq!(bed.daemon.poke("/v1/previews/shop/7/reset").await.expect(200)["db_name"], "shop_pr_7");

    let gone = bed.daemon.delete("/v1/preview-db/7?template=shop").await.expect(200);
    assert_eq!(
        (&gone["db_name"], &gone["deleted"], &gone["role_deleted"]),
        (&json!("shop_pr_7"), &json!(true), &json!(true))
    );
    assert_eq!(of_shop(&bed).await, "");
    assert_eq!(bed.ensure(7).await["created"], false, "the other template's preview stays");
}

#[tokio::test]
async fn a_template_that_is_not_there_is_said_so_and_nothing_is_made() {
    let bed = Bed::start().await;
    // `medusa` would have the names of the configured template's previews.
    for name in ["shop", "medusa", "medusa_pr_1", "postgres", "a%22b", "x_pr_3"] {
        let path = format!("/v1/preview-db/ensure?template={name}");
        let answer = bed.daemon.post(&path, &json!({ "pr_number": 1 })).await;
        assert_eq!(answer.refused(404), "template_not_found", "{name}");
        let answer = bed.daemon.delete(&format!("/v1/preview-db/1?template={name}")).await;
        assert!(answer.status == 404 || answer.json["noop"] == true, "{name}: {}", answer.json);
    }
    assert_eq!(of_shop(&bed).await, "");
    let answer = bed.daemon.send(Method::PUT, "/v1/templates/medusa", Body::Json(json!({}))).await;
    assert_eq!(answer.refused(400), "invalid_name");
}

#[tokio::test]
async fn pools_and_orphans_are_told_apart() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    build_shop(&bed).await;
    ensure_of_shop(&bed, 3).await;
    let ready = || async {
        let pool = bed.daemon.get("/v1/previews?template=shop").await.expect(200)["pools"][0].clone();
        (pool["numbers"] == json!([4]) && pool["making"] == 0).then_some(pool)
    };
    let pool = wait::until(Duration::from_secs(30), "a pool of shop", ready).await;
    assert!(pool["entries"][0].as_str().expect("a name").starts_with("shop_pr_pool_"), "{pool}");
    assert_eq!(sql::run(&bed.app_url(&ensure_of_shop(&bed, 4).await), "SELECT count(*) FROM items").await, "7");
    let page = bed.daemon.get("/v1/operations?kind=preview.ensure&limit=1").await.expect(200);
    assert_eq!(page["items"][0]["steps"][0]["name"], "hand_out");

    sql::run(&bed.operator_url("postgres"), "CREATE DATABASE shop_pr_50 TEMPLATE shop").await;
    let orphans = bed.daemon.get("/v1/previews/orphans").await.expect(200);
    assert_eq!(
        (orphans["items"].as_array().expect("items").len(), &orphans["items"][0]["name"]),
        (1, &json!("shop_pr_50"))
    );
    bed.daemon.poke("/v1/previews/gc").await.expect(200);
    assert!(!of_shop(&bed).await.contains("shop_pr_50"));
    assert_eq!(ensure_of_shop(&bed, 3).await["created"], false);
}
