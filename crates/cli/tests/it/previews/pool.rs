//! The warm pool: clones that are made ahead and handed out by renaming.

use super::bed::Bed;
use pgdb_testkit::sql;
use serde_json::json;

impl Bed {
    /// The kinds of the steps of the newest ensure.
    async fn steps_of_last_ensure(&self) -> Vec<String> {
        let page = self.daemon.get("/v1/operations?kind=preview.ensure&limit=1").await.expect(200);
        let steps = page["items"][0]["steps"].as_array().expect("steps").iter();
        steps.map(|step| step["name"].as_str().expect("a name").to_owned()).collect()
    }
}

#[tokio::test]
async fn entries_are_made_for_the_numbers_to_come_and_handed_out() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "2"), ("PGDB_PREVIEW_POOL_MAX", "2")]).await;
    bed.ensure(10).await;
    assert_eq!(bed.steps_of_last_ensure().await, ["make_role", "clone", "hand_over"], "there was no pool yet");
    bed.wait_pool(&[11, 12]).await;

    let foreseen = bed.ensure(11).await;
    assert_eq!((bed.steps_of_last_ensure().await, &foreseen["created"]), (vec!["hand_out".to_owned()], &json!(true)));
    assert_eq!(
        sql::run(&bed.app_url(&foreseen), "SELECT current_user || ' ' || current_database()").await,
        "medusa_pr_app_11 medusa_pr_11"
    );
    bed.wait_pool(&[12, 13]).await;
    let unforeseen = bed.ensure(50).await;
    assert_eq!(bed.steps_of_last_ensure().await, ["hand_out"]);
    assert_eq!(sql::run(&bed.app_url(&unforeseen), "SELECT count(*) FROM shop.orders").await, "100");
    // Those that are left get the passwords of the numbers that come now.
    bed.wait_pool(&[51, 52]).await;
    let next = bed.ensure(51).await;
    assert_eq!(sql::run(&bed.app_url(&next), "SELECT 1").await, "1");

    for number in [10, 11, 50, 51] {
        assert_eq!(bed.delete(number).await["role_deleted"], true);
    }
    bed.wait_pool(&[52, 53]).await;
    assert_eq!(bed.leftovers().await.split(' ').filter(|name| !name.contains("pool_")).collect::<String>(), "");
}

#[tokio::test]
async fn an_entry_that_is_gone_is_no_error() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.ensure(1).await;
    bed.wait_pool(&[2]).await;
    let entry = bed.admin("SELECT datname FROM pg_database WHERE datname LIKE 'medusa\\_pr\\_pool\\_%'").await;
    bed.admin(&format!("DROP DATABASE {entry}")).await;
    let made = bed.ensure(2).await;
    assert_eq!(made["created"], true);
    assert_eq!(sql::run(&bed.app_url(&made), "SELECT count(*) FROM shop.orders").await, "100");
    bed.wait_pool(&[3]).await;
}

#[tokio::test]
async fn a_changed_template_makes_the_pool_anew() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.ensure(1).await;
    let before = bed.wait_pool(&[2]).await;
    // As the seed's guide replaces it: another database under the name.
    bed.admin("ALTER DATABASE template_medusa RENAME TO template_old").await;
    bed.admin("CREATE DATABASE template_medusa OWNER zane_operator").await;
    sql::run(&bed.operator_url("template_medusa"), "CREATE TABLE fresh (id int)").await;
    let after = bed.ensure(2).await;
    assert_eq!(sql::run(&bed.app_url(&after), "SELECT count(*) FROM fresh").await, "0", "cloned from the new one");
    let pool = bed.wait_pool(&[3]).await;
    assert!(pool["generation"].as_u64() > before["generation"].as_u64(), "{pool}");
    let third = bed.ensure(3).await;
    assert_eq!(bed.steps_of_last_ensure().await, ["hand_out"]);
    assert_eq!(sql::run(&bed.app_url(&third), "SELECT count(*) FROM fresh").await, "0");
}

#[tokio::test]
async fn clones_that_nobody_waits_for_tell_which_copy_is_the_quickest() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "4"), ("PGDB_PREVIEW_POOL_MAX", "4")]).await;
    // Large enough that it is not settled beforehand.
    let filler = "CREATE TABLE public.filler AS SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 15000) n";
    sql::run(&bed.operator_url("template_medusa"), filler).await;
    bed.ensure(1).await;
    let pool = bed.wait_pool(&[2, 3, 4, 5]).await;
    let took = pool["copy_ms"].as_object().expect("what copies took");
    let major: u32 =
        bed.admin("SELECT current_setting('server_version_num')::int / 10000").await.parse().expect("a major");
    let ways: Vec<&str> = took.keys().map(String::as_str).collect();
    assert_eq!(ways, if major >= 18 { vec!["clone", "file_copy", "wal_log"] } else { vec!["file_copy", "wal_log"] });
    let quickest = took.iter().filter_map(|(way, ms)| Some((way, ms.as_f64()?))).min_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(pool["strategy"].as_str(), quickest.map(|(way, _)| way.as_str()), "{pool}");
    let shown = bed.daemon.get("/v1/templates/template_medusa").await.expect(200);
    assert_eq!(shown["copy_ms"], pool["copy_ms"]);
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(3).await), "SELECT count(*) FROM filler").await, "15000");
}
