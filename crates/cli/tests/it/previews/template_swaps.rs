//! What a refresh must not disturb, and what must not disturb a refresh.

use super::bed::{Bed, SERVER};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::api::Body;
use pgdb_testkit::world::postmaster_pid;
use pgdb_testkit::{sql, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const PATH: &str = "/v1/templates/template_medusa";
const LONG: Duration = Duration::from_secs(60);

/// Says where the template comes from: a database with one table.
async fn define(bed: &Bed) {
    let deployed = bed.daemon.deploy(json!({ "name": "source", "superuser": true })).await;
    let url = deployed["database_url"].as_str().expect("a URL").to_owned();
    sql::run(&url, "CREATE TABLE crew AS SELECT n FROM generate_series(1, 70) n; CREATE EXTENSION citext").await;
    let wanted = json!({ "source_url": url });
    bed.daemon.send(Method::PUT, PATH, Body::Json(wanted)).await.expect(200);
}

/// Begins a refresh, and gives the operation's id.
async fn begin(bed: &Bed) -> String {
    let begun = bed.daemon.poke(&format!("{PATH}/refresh?wait=false")).await.expect(202);
    begun["id"].as_str().expect("an id").to_owned()
}

/// The step that the operation is at, or none between two; nothing when it has ended.
async fn step_of(bed: &Bed, id: &str) -> Option<Option<String>> {
    let operation = bed.daemon.get(&format!("/v1/operations/{id}")).await.expect(200);
    let steps = operation["steps"].as_array().expect("steps");
    let running = steps.iter().find(|step| step["state"] == "running");
    let name = running.map(|step| step["name"].as_str().expect("a name").to_owned());
    (operation["state"] == "running" || operation["state"] == "pending").then_some(name)
}

async fn succeeds(bed: &Bed, id: &str) -> Value {
    let operation = bed.daemon.wait_operation(id).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    operation
}

/// Waits until a session waits for a lock on a database.
async fn wait_for_waiter(bed: &Bed) {
    let look = || async {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 'pg_database'::regclass";
        (bed.admin(sql).await != "0").then_some(())
    };
    wait::until(LONG, "somebody who waits for the database", look).await;
}

/// A session that keeps anybody from renaming or dropping the database.
async fn hold(bed: &Bed, db: &str) -> sql::Session {
    let session = sql::login(&bed.admin_url("postgres")).await.expect("a login");
    session.run(&format!("BEGIN; COMMENT ON DATABASE {db} IS 'held'")).await.expect("held");
    session
}

#[tokio::test]
async fn ensures_go_on_during_a_refresh() {
    let steps = ["load", "mask", "check", "prepare", "tidy"];
    let faults: Vec<String> = steps.iter().map(|step| format!("template.refresh/{step}/pause@1500")).collect();
    let bed = Bed::start_with(&[("PGDB_FAULTS", &faults.join(","))]).await;
    define(&bed).await;
    bed.ensure(1).await;
    let id = begin(&bed).await;
    // A preview that was made within a step has not waited for its end.
    let (mut within, mut number, mut rows) = (BTreeSet::new(), 1, BTreeSet::new());
    while let Some(before) = step_of(&bed, &id).await {
        number += 1;
        let made = bed.ensure(number).await;
        assert_eq!(made["created"], true);
        let sql = "SELECT to_regclass('public.crew') IS NOT NULL";
        rows.insert(sql::run(&bed.app_url(&made), sql).await);
        if step_of(&bed, &id).await.as_ref() == Some(&before) {
            within.extend(before);
        }
    }
    succeeds(&bed, &id).await;
    for step in steps {
        assert!(within.contains(step), "no ensure was answered during {step}, but during {within:?}");
    }
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), ["f", "t"], "from the old one, then from the new one");
}

#[tokio::test]
async fn ensures_do_not_wait_until_the_old_template_is_dropped() {
    let bed = Bed::start_with(&[("PGDB_FAULTS", "template.refresh/tidy/pause@5000")]).await;
    define(&bed).await;
    bed.ensure(1).await;
    let first = begin(&bed).await;
    succeeds(&bed, &first).await;
    let id = begin(&bed).await;
    let outdated = || async {
        let name = bed.admin("SELECT datname FROM pg_database WHERE datname LIKE 'template%\\_old'").await;
        (!name.is_empty()).then_some(name)
    };
    let outdated = wait::until(LONG, "the old template to be put aside", outdated).await;
    let held = hold(&bed, &outdated).await;
    wait_for_waiter(&bed).await;
    let made = tokio::time::timeout(Duration::from_secs(20), bed.ensure(2)).await;
    let made = made.expect("the ensure does not wait for the drop");
    assert_eq!(sql::run(&bed.app_url(&made), "SELECT count(*) FROM crew").await, "70");
    held.run("ROLLBACK").await.expect("let go");
    succeeds(&bed, &id).await;
    assert_eq!(bed.admin("SELECT count(*) FROM pg_database WHERE datname LIKE 'template%\\_old'").await, "0");
}

#[tokio::test]
async fn postgresql_may_be_killed_during_the_swap() {
    let bed = Bed::start().await;
    define(&bed).await;
    bed.ensure(1).await;
    let held = hold(&bed, "template_medusa").await;
    let id = begin(&bed).await;
    bed.daemon.wait_step(&id, "swap").await;
    wait_for_waiter(&bed).await;
    kill(Pid::from_raw(postmaster_pid(&bed.daemon, SERVER)), Signal::SIGKILL).expect("it runs");
    let operation = succeeds(&bed, &id).await;
    drop(held);
    let swap = operation["steps"].as_array().expect("steps").iter().find(|step| step["name"] == "swap");
    assert!(swap.expect("a swap")["attempt"].as_u64() > Some(1), "{operation:#}");
    assert_eq!(sql::run(&bed.app_url(&bed.ensure(2).await), "SELECT count(*) FROM crew").await, "70");
    let all =
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'template\\_medusa%'";
    assert_eq!(bed.admin(all).await, "template_medusa template_medusa_previous");
}

#[tokio::test]
async fn a_template_that_is_marked_as_one_is_closed_and_leaves_nothing_behind() {
    let bed = Bed::start().await;
    define(&bed).await;
    bed.admin("ALTER DATABASE template_medusa IS_TEMPLATE true").await;
    bed.ensure(1).await;
    let rights = "SELECT datistemplate || ' ' || datallowconn || ' ' || (SELECT count(*) FROM \
                  aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0) \
                  FROM pg_database WHERE datname = 'template_medusa'";
    assert_eq!(bed.admin(rights).await, "false false 0", "whether it is a template, open, and what PUBLIC may do");
    let all =
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'template\\_medusa%'";
    for _ in 0..3 {
        // Somebody follows PostgreSQL's manual.
        bed.admin("ALTER DATABASE template_medusa IS_TEMPLATE true").await;
        let id = begin(&bed).await;
        succeeds(&bed, &id).await;
        assert_eq!(bed.admin(all).await, "template_medusa template_medusa_previous");
    }
    bed.admin("ALTER DATABASE template_medusa_previous IS_TEMPLATE true").await;
    let id = begin(&bed).await;
    succeeds(&bed, &id).await;
    assert_eq!(bed.admin(all).await, "template_medusa template_medusa_previous");
}
