//! A folder of schemas, and a mounted ConfigMap.

use super::bed::Bed;
use std::fs;
use std::time::Duration;

/// A file that can be run again and leaves what it says.
pub(super) fn says(table: &str, text: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS public.{table} (text text);\nTRUNCATE public.{table};\n\
         INSERT INTO public.{table} VALUES ('{text}');\n"
    )
}

/// The ledger's word: how often a file was applied.
pub(super) fn applied(key: &str) -> String {
    format!("SELECT count(*)::text FROM pgdb.migrations WHERE key = '{key}' AND outcome = 'applied'")
}

/// The seed's three schemas, whose files build on each other.
async fn a_tree(major: u16) {
    let mut bed = Bed::start_on(Some(major)).await;
    for schema in ["gcp", "aws", "azure"] {
        bed.write_tree(&format!("{schema}/001_create_schema.sql"), &format!("CREATE SCHEMA IF NOT EXISTS {schema};"));
        bed.write_tree(&format!("{schema}/002_secrets.sql"), &format!("CREATE TABLE {schema}.secrets (name text);"));
        bed.write_tree(&format!("{schema}/010_data.sql"), &format!("INSERT INTO {schema}.secrets VALUES ('x');"));
    }
    bed.write_tree("gcp/README.md", "no migration");
    bed.watch();
    let ready = bed.ready().await;
    assert_eq!((ready["files"].as_u64(), ready["applied"].as_u64()), (Some(9), Some(9)), "{ready}");
    assert!(ready["source"].as_str().is_some_and(|source| source.ends_with("tree")), "{ready}");
    let order = "SELECT string_agg(key, ' ' ORDER BY id) FROM pgdb.migrations WHERE outcome = 'applied'";
    let keys = bed.sql(order).await;
    assert!(keys.starts_with("aws/001_create_schema.sql aws/002_secrets.sql aws/010_data.sql azure/001"), "{keys}");
    assert!(bed.log().contains("All migrations applied"));
    assert!(bed.log().contains("there was no such database"));

    // One more, in a schema that is not there yet.
    bed.write_tree("ibm/001_create_schema.sql", "CREATE SCHEMA ibm;");
    bed.until_sql(&applied("ibm/001_create_schema.sql"), "1").await;
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM gcp.secrets").await, "1", "nothing ran twice");
}

#[tokio::test]
async fn a_tree_is_applied_in_order_on_15() {
    a_tree(15).await;
}

#[tokio::test]
async fn a_tree_is_applied_in_order_on_18() {
    a_tree(18).await;
}

#[tokio::test]
async fn a_plain_edit_is_run_again() {
    let mut bed = Bed::start().await;
    bed.write_tree("public/001_a.sql", &says("a", "one"));
    bed.write_tree("public/002_b.sql", &says("b", "one"));
    bed.watch();
    bed.ready().await;
    bed.write_tree("public/001_a.sql", &says("a", "two"));
    bed.until_sql("SELECT text FROM a", "two").await;
    bed.ready().await;
    assert_eq!(bed.sql(&applied("public/001_a.sql")).await, "2");
    assert_eq!(bed.sql(&applied("public/002_b.sql")).await, "1");

    // Back to what it was at first: that is a change as well.
    bed.write_tree("public/001_a.sql", &says("a", "one"));
    bed.until_sql("SELECT text FROM a", "one").await;
}

#[tokio::test]
async fn a_mount_is_followed_through_its_swaps() {
    let mut bed = Bed::start().await;
    let entry = |text: &str| vec![("gcp_001_a.sql".to_owned(), says("a", text))];
    bed.update_mount(1, &entry("one"));
    bed.watch();
    bed.until_sql("SELECT text FROM a", "one").await;
    bed.update_mount(2, &entry("two"));
    bed.until_sql("SELECT text FROM a", "two").await;
    let mut more = entry("three");
    more.push(("aws_001_b.sql".to_owned(), says("b", "new")));
    bed.update_mount(3, &more);
    bed.until_sql("SELECT text FROM a", "three").await;
    bed.until_sql("SELECT text FROM b", "new").await;
    let ready = bed.ready().await;
    assert_eq!(ready["files"].as_u64(), Some(2), "{ready}");
    let keys = bed.sql("SELECT string_agg(DISTINCT key, ' ') FROM pgdb.migrations").await;
    assert_eq!(keys, "aws/001_b.sql gcp/001_a.sql");
}

async fn fifty_updates(major: u16) {
    const UPDATES: u32 = 50;
    let mut bed = Bed::start_on(Some(major)).await;
    bed.update_mount(0, &[("gcp_000_first.sql".to_owned(), says("counter", "0"))]);
    bed.watch();
    bed.ready().await;
    // Each changes the first file, and brings one more.
    let mut entries = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for number in 1..=UPDATES {
        pace.tick().await;
        entries.push((format!("gcp_{number:03}_more.sql"), format!("CREATE TABLE t{number} (a int);")));
        let mut all = vec![("gcp_000_first.sql".to_owned(), says("counter", &number.to_string()))];
        all.extend(entries.iter().cloned());
        bed.update_mount(number, &all);
    }
    bed.until_sql("SELECT text FROM counter", &UPDATES.to_string()).await;
    let ready = bed.ready().await;
    assert_eq!(ready["applied"].as_u64(), Some(u64::from(UPDATES) + 1), "{ready}");
    let tables = bed.sql("SELECT count(*)::text FROM pg_tables WHERE tablename ~ '^t\\d+$'").await;
    assert_eq!(tables, UPDATES.to_string());
    let twice = "SELECT count(*)::text FROM (SELECT key FROM pgdb.migrations WHERE key LIKE '%_more.sql' GROUP BY key \
                 HAVING count(*) > 1) k";
    assert_eq!(bed.sql(twice).await, "0");
}

#[tokio::test]
async fn of_fifty_updates_in_five_seconds_none_is_lost_on_15() {
    fifty_updates(15).await;
}

#[tokio::test]
async fn of_fifty_updates_in_five_seconds_none_is_lost_on_18() {
    fifty_updates(18).await;
}

#[tokio::test]
async fn after_a_failure_the_next_file_is_run_and_the_mended_one_too() {
    let mut bed = Bed::start().await;
    bed.write_tree("public/001_a.sql", &says("a", "one"));
    bed.write_tree("public/002_bad.sql", "CREATE TABLE half (a int);\nINSERT INTO nowhere VALUES (1);\n");
    bed.write_tree("public/003_c.sql", &says("c", "one"));
    bed.watch();
    let body = bed.not_ready("public/002_bad.sql").await;
    bed.until_sql("SELECT text FROM c", "one").await;
    let body = if body["applied"] == 2 { body } else { bed.not_ready("nowhere").await };
    assert_eq!(body["problems"].as_array().map(Vec::len), Some(1), "{body}");
    assert!(body["reason"].as_str().is_some_and(|reason| reason.contains("42P01")), "{body}");
    assert_eq!(bed.sql("SELECT count(*)::text FROM pg_tables WHERE tablename = 'half'").await, "0");
    assert_eq!(bed.probe("/liveness").await.map(|(status, _)| status), Some(200));
    assert!(bed.log().contains("public/002_bad.sql:2:13"), "the log has the place");

    bed.write_tree("public/002_bad.sql", "CREATE TABLE half (a int);\n");
    bed.ready().await;
    assert_eq!(bed.sql(&applied("public/001_a.sql")).await, "1");
    assert_eq!(bed.sql(&applied("public/002_bad.sql")).await, "1");
}

async fn names_with_tricks(major: u16) {
    let mut bed = Bed::start_on(Some(major)).await;
    bed.write_mount("gcp_001_good.sql", &says("good", "yes"));
    // No schema; a way up; a control character; and what looks like a step out of the folder.
    for name in ["_001_bad.sql", "gcp_..sql", "gcp_\u{7}002.sql", "gcp_..\\..\\etc.sql"] {
        bed.write_mount(name, &says("bad", "yes"));
    }
    bed.watch();
    let body = bed.not_ready("is not used as a migration").await;
    assert_eq!(body["problems"].as_array().map(Vec::len), Some(4), "{body}");
    bed.until_sql("SELECT text FROM good", "yes").await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM pg_tables WHERE tablename = 'bad'").await, "0");
    for name in ["_001_bad.sql", "gcp_..sql", "gcp_\u{7}002.sql", "gcp_..\\..\\etc.sql"] {
        fs::remove_file(bed.mount_path().join(name)).expect("removed");
    }
    bed.ready().await;
}

#[tokio::test]
async fn names_with_tricks_are_refused_aloud_and_the_others_run_on_15() {
    names_with_tricks(15).await;
}

#[tokio::test]
async fn names_with_tricks_are_refused_aloud_and_the_others_run_on_18() {
    names_with_tricks(18).await;
}

#[tokio::test]
async fn a_mount_takes_over_from_the_tree() {
    let mut bed = Bed::start().await;
    bed.watch();
    bed.not_ready("there are no migrations").await;
    bed.write_tree("public/001_a.sql", &says("a", "tree"));
    bed.until_sql("SELECT text FROM a", "tree").await;
    bed.update_mount(1, &[("public_001_a.sql".to_owned(), says("a", "mount"))]);
    bed.until_sql("SELECT text FROM a", "mount").await;
    // What the tree says now does not count, nor when the mount is gone.
    bed.write_tree("public/001_a.sql", &says("a", "tree again"));
    fs::remove_dir_all(bed.mount_path()).expect("removed");
    bed.write_tree("public/002_b.sql", &says("b", "tree"));
    let look = || async { bed.probe("/readiness").await.filter(|(_, body)| body["source_trouble"].is_string()) };
    pgdb_testkit::wait::until(super::bed::LIMIT, "the trouble to be told", look).await;
    assert_eq!(bed.sql("SELECT text FROM a").await, "mount");
    assert_eq!(bed.sql("SELECT count(*)::text FROM pg_tables WHERE tablename = 'b'").await, "0");
}
