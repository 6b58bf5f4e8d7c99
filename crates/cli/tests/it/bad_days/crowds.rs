//! Many requests at once.

use super::BINARY;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use serde_json::json;
use std::collections::BTreeSet;
use tokio::task::JoinSet;

#[tokio::test]
async fn of_100_deploys_of_one_name_one_wins() {
    let daemon = Daemon::start(BINARY).await;
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let api = daemon.clone();
        requests.spawn(async move { api.post("/v1/deploy", &json!({ "name": "wanted" })).await });
    }
    let answers = requests.join_all().await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "so many deploys of one name succeeded");
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(lost.refused(409), "name_taken");
        assert_eq!(lost.message(), "database name 'wanted' already exists");
    }
    assert_eq!(sql::run(won[0].json["database_url"].as_str().expect("a URL"), "SELECT 1").await, "1");
    assert_nothing_left(&daemon, &["wanted"]).await;
}

#[tokio::test]
async fn of_20_deploys_of_different_names_all_win() {
    let daemon = Daemon::start(BINARY).await;
    let names: Vec<String> = (0..20).map(|number| format!("crowd-{number}")).collect();
    let mut requests = JoinSet::new();
    for name in names.clone() {
        let api = daemon.clone();
        requests.spawn(async move {
            let deployed = api.deploy_named(&name).await;
            let url = deployed["database_url"].as_str().expect("a URL").to_owned();
            let whoami = sql::run(&url, "SELECT current_user").await;
            assert_eq!(whoami, deployed["user"].as_str().expect("user"));
            (deployed["port"].as_u64().expect("port"), deployed["password"].to_string())
        });
    }
    let made = requests.join_all().await;
    let ports: BTreeSet<_> = made.iter().map(|(port, _)| port).collect();
    let passwords: BTreeSet<_> = made.iter().map(|(_, password)| password).collect();
    assert_eq!((ports.len(), passwords.len()), (20, 20), "ports or passwords are shared");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_nothing_left(&daemon, &names).await;

    let mut requests = JoinSet::new();
    for name in names.iter().map(|name| (*name).to_owned()) {
        let api = daemon.clone();
        requests.spawn(async move { api.destroy(&name).await });
    }
    requests.join_all().await;
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn operations_on_one_instance_never_mix() {
    let daemon = Daemon::start(BINARY).await;
    let deployed = daemon.deploy_named("torn").await;
    let url = deployed["database_url"].as_str().expect("a URL");
    sql::run(url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    let mut requests = JoinSet::new();
    for number in 0..30 {
        let api = daemon.clone();
        let verb = ["restart", "stop", "start", "rotate-password"][number % 4];
        requests.spawn(async move { (verb, api.poke(&format!("/v1/db/torn/{verb}")).await) });
    }
    for (verb, answer) in requests.join_all().await {
        match answer.status {
            200 => {}
            423 => {
                assert_eq!(answer.refused(423), "operation_conflict", "{verb}");
                assert!(answer.headers.contains_key("retry-after"), "{verb}: {:?}", answer.headers);
                assert!(answer.json["operation_id"].is_string(), "{verb}: {}", answer.json);
            }
            _ => assert_eq!(answer.refused(409), "not_running", "{verb}"),
        }
    }
    daemon.poke("/v1/db/torn/start").await.expect(200);
    let item = daemon.wait_state("torn", "running").await;
    let url = item["database_url"].as_str().expect("a URL");
    assert_eq!(sql::run(url, "SELECT text FROM note").await, "kept");
    assert_nothing_left(&daemon, &["torn"]).await;
}
