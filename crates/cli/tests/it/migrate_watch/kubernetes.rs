//! A ConfigMap through the Kubernetes API, against a stand-in that speaks its protocol.

use super::bed::Bed;
use pgdb_testkit::kube::{KubeApi, NAME, NAMESPACE};

fn says(text: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS a (text text);\nTRUNCATE a;\nINSERT INTO a VALUES ('{text}');\n")
}

/// A bed whose watcher is told of the stand-in.
async fn beside(api: &KubeApi) -> Bed {
    let mut bed = Bed::start().await;
    let kubeconfig = api.kubeconfig(bed.daemon.folder());
    bed.set("KUBECONFIG", &kubeconfig.display().to_string());
    bed.set("NAMESPACE", NAMESPACE);
    bed.set("CONFIGMAP_NAME", NAME);
    bed
}

#[tokio::test]
async fn the_api_is_stronger_than_mount_and_tree() {
    let api = KubeApi::start();
    api.apply(&[("public_001_a.sql", &says("api"))]);
    let mut bed = beside(&api).await;
    bed.update_mount(1, &[("public_001_a.sql".to_owned(), says("mount"))]);
    bed.write_tree("public/001_a.sql", &says("tree"));
    bed.watch();
    let ready = bed.ready().await;
    assert_eq!(ready["source"].as_str(), Some("ConfigMap tests/postgres-migrations"));
    assert_eq!(bed.sql("SELECT text FROM a").await, "api");
    api.apply(&[("public_001_a.sql", &says("changed"))]);
    bed.until_sql("SELECT text FROM a", "changed").await;
    // It was never anything else.
    bed.ready().await;
    assert_eq!(bed.sql("SELECT count(*)::text FROM pgdb.migrations").await, "2");
}

#[tokio::test]
async fn without_the_right_to_look_the_mount_counts_until_it_is_granted() {
    let api = KubeApi::start();
    api.apply(&[("public_001_a.sql", &says("api"))]);
    api.forbid(true);
    let mut bed = beside(&api).await;
    bed.update_mount(1, &[("public_001_a.sql".to_owned(), says("mount"))]);
    bed.watch();
    bed.until_sql("SELECT text FROM a", "mount").await;
    let ready = bed.ready().await;
    assert!(ready["source_trouble"].as_str().is_some_and(|trouble| trouble.contains("RBAC")), "{ready}");
    api.forbid(false);
    bed.until_sql("SELECT text FROM a", "api").await;
}

#[tokio::test]
async fn a_restart_of_the_api_and_old_versions_lose_nothing() {
    let mut api = KubeApi::start();
    let mut bed = beside(&api).await;
    bed.watch();
    bed.not_ready("there is no ConfigMap").await;
    api.apply(&[("public_001_a.sql", &says("made"))]);
    bed.until_sql("SELECT text FROM a", "made").await;
    api.compact();
    api.apply(&[("public_001_a.sql", &says("after 410"))]);
    bed.until_sql("SELECT text FROM a", "after 410").await;
    api.stop().await;
    api.apply(&[("public_001_a.sql", &says("while it was away"))]);
    api.resume();
    bed.until_sql("SELECT text FROM a", "while it was away").await;
    // Removed: what it held last counts, and the database stays as it is.
    api.delete();
    let look = || async { bed.probe("/readiness").await.filter(|(_, body)| body["source_trouble"].is_string()) };
    let (status, body) = pgdb_testkit::wait::until(super::bed::LIMIT, "the removal to be told", look).await;
    assert_eq!((status, body["applied"].as_u64()), (200, Some(1)), "{body}");
}

#[tokio::test]
async fn of_many_updates_the_last_counts() {
    let api = KubeApi::start();
    let mut bed = beside(&api).await;
    bed.watch();
    for number in 1..=200 {
        api.apply(&[("public_001_a.sql", &says(&number.to_string()))]);
    }
    bed.until_sql("SELECT text FROM a", "200").await;
    bed.ready().await;
}
