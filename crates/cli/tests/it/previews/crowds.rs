//! Many at once.

use super::bed::Bed;
use futures::future::join_all;
use pgdb_testkit::sql;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_hundred_ensures_of_one_pull_request_make_one_database() {
    let bed = Bed::start().await;
    let answers = join_all((0..100).map(|_| bed.ensure(5))).await;
    let created = answers.iter().filter(|answer| answer["created"] == true).count();
    assert_eq!(created, 1, "exactly one is told that it was created");
    let same: BTreeSet<String> = answers.iter().map(|answer| answer["app_password"].to_string()).collect();
    assert_eq!(same.len(), 1);
    assert_eq!(bed.leftovers().await, "medusa_pr_5 medusa_pr_app_5");
    assert_eq!(sql::run(&bed.app_url(&answers[0]), "SELECT count(*) FROM public.customers").await, "2");
}

#[tokio::test]
async fn a_hundred_ensures_of_a_hundred_pull_requests_all_succeed() {
    let bed = Bed::start().await;
    let answers = join_all((1..=100).map(|number| bed.ensure(number))).await;
    assert!(answers.iter().all(|answer| answer["created"] == true));
    let owners = bed
        .admin("SELECT string_agg(DISTINCT pg_get_userbyid(datdba)::text, ' ') FROM pg_database WHERE datname LIKE 'medusa\\_pr\\_%' OR datname = 'template_medusa'")
        .await;
    assert_eq!(owners, "zane_operator", "nobody took over a database");
    let deletes = join_all((1..=100).map(|number| bed.delete(number))).await;
    assert!(deletes.iter().all(|answer| answer["deleted"] == true && answer["role_deleted"] == true));
    assert_eq!(bed.leftovers().await, "");
}

#[tokio::test]
async fn ensures_and_deletes_of_one_pull_request_take_turns() {
    let bed = Bed::start().await;
    let rounds = (0..20).map(|round| async {
        let _ = round;
        tokio::join!(bed.ensure(9), bed.delete(9));
    });
    join_all(rounds).await;
    let last = bed.ensure(9).await;
    assert_eq!(sql::run(&bed.app_url(&last), "SELECT count(*) FROM shop.orders").await, "100");
    let previews = bed.daemon.get("/v1/previews").await.expect(200);
    assert_eq!(previews["items"].as_array().map(Vec::len), Some(1), "{previews:#}");
    assert_eq!(previews["items"][0]["app_password"], json!(""), "a list shows no passwords");
    bed.delete(9).await;
    assert_eq!(bed.leftovers().await, "");
}
