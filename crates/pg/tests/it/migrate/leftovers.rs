//! What is left of statements that make indexes and did not come to their end: the file's own is dropped, and nobody
//! else's.

use super::{Bed, file, on_both, options, word};
use crate::server::one;
use pgdb_core::migration::file::File;
use pgdb_pg::Client;
use pgdb_pg::migrate::report::{Failure, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use std::time::Duration;

on_both!(an_index_without_a_name_is_dropped_and_another_one_is_not);
on_both!(what_a_statement_left_goes_also_when_it_was_changed);
on_both!(of_two_that_look_alike_none_is_dropped);
on_both!(a_reindex_that_broke_off_leaves_nothing);
on_both!(a_name_that_is_too_long_is_cut_as_postgresql_cuts_it);
on_both!(an_invalid_index_of_somebody_is_told_and_not_dropped);
on_both!(an_index_that_was_made_and_not_noted_is_not_made_again);
on_both!(an_index_that_somebody_builds_just_now_is_waited_for);

const INDEXES: &str = "SELECT coalesce(string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname), '') \
     FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 't'::regclass";

fn files(index: &str) -> [File; 2] {
    [
        file("a/1.sql", "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (1, 1);"),
        file("a/2.sql", &format!("-- no-transaction\n{index}")),
    ]
}

async fn made(bed: &Bed, files: &[File]) -> Client {
    bed.run(&files[..1]).await;
    bed.client().await
}

async fn do_it(client: &Client, sql: &str) {
    client.batch("do it", sql).await.expect(sql);
}

/// Something else that fails and leaves its invalid index.
async fn somebody_elses(client: &Client, sql: &str) {
    client.batch("leave an index", sql).await.expect_err("there are doubles");
}

/// A run whose session is ended by the server once its statement has made an index and waits for a writer.
async fn broken_off(bed: &Bed, files: &[File]) -> Failure {
    let writer = bed.client().await;
    do_it(&writer, "BEGIN; UPDATE t SET b = 2").await;
    let watcher = bed.client().await;
    let ending = async {
        let waits =
            "SELECT count(pg_terminate_backend(pid))::text FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted";
        while one(&watcher, waits).await == "0" {
            tokio::task::yield_now().await;
        }
    };
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let (report, ()) = tokio::join!(bed.try_run(files, &patient), ending);
    do_it(&writer, "ROLLBACK").await;
    writer.close().await;
    watcher.close().await;
    let report = report.expect("told");
    let failure = report.files.last().and_then(|file| file.failure.clone()).expect("a failure");
    assert!(failure.aftermath.contains("connection was lost"), "{failure}");
    failure
}

async fn heard(bed: &Bed, files: &[File], options: &Options) -> (RunReport, Vec<String>) {
    let mut heard = Vec::new();
    let mut session = bed.session().await;
    let report = run(&mut session, files, options, &mut |event| heard.extend(word(&event))).await.expect("a run");
    session.close().await;
    (report, heard)
}

async fn an_index_without_a_name_is_dropped_and_another_one_is_not(bed: &Bed) {
    let files = files("CREATE INDEX CONCURRENTLY ON t (a);");
    let client = made(bed, &files).await;
    somebody_elses(&client, "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)").await;
    broken_off(bed, &files).await;
    assert_eq!(one(&client, INDEXES).await, "t_a_idx false, t_a_idx1 false");
    // One that somebody leaves between the two runs, of another shape.
    somebody_elses(&client, "CREATE UNIQUE INDEX CONCURRENTLY ON t (b)").await;
    let (report, said) = heard(bed, &files, &options()).await;
    assert!(report.is_complete(), "{report:#?}");
    let told: Vec<&String> = said.iter().filter(|said| said.contains("it is dropped")).collect();
    assert!(matches!(told[..], [told] if told.contains("invalid index public.t_a_idx1;")), "{said:?}");
    assert_eq!(one(&client, INDEXES).await, "t_a_idx false, t_a_idx1 true, t_b_idx false");
    client.close().await;
}

async fn what_a_statement_left_goes_also_when_it_was_changed(bed: &Bed) {
    let half = |index: &str| files(&format!("SELECT 1;\n{index};"));
    let client = made(bed, &half("x")).await;
    somebody_elses(&client, "CREATE UNIQUE INDEX CONCURRENTLY others ON t (a)").await;
    let failure = bed.fail(&half("CREATE UNIQUE INDEX CONCURRENTLY ON t (a)")).await;
    assert!(failure.aftermath.starts_with("it left the invalid index public.t_a_idx;"), "{failure}");
    // Again the same, and not one more each time.
    bed.fail(&half("CREATE UNIQUE INDEX CONCURRENTLY ON t (a)")).await;
    assert_eq!(one(&client, INDEXES).await, "others false, t_a_idx false");
    bed.run(&half("CREATE INDEX CONCURRENTLY plain ON t (a)")).await;
    assert_eq!(one(&client, INDEXES).await, "others false, plain true");
    client.close().await;
}

async fn of_two_that_look_alike_none_is_dropped(bed: &Bed) {
    let files = files("CREATE INDEX CONCURRENTLY ON t (a);");
    let client = made(bed, &files).await;
    broken_off(bed, &files).await;
    somebody_elses(&client, "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)").await;
    let (report, said) = heard(bed, &files, &options()).await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(said.iter().any(|said| said.contains("cannot be told which")), "{said:?}");
    assert_eq!(one(&client, INDEXES).await, "t_a_idx false, t_a_idx1 false, t_a_idx2 true");
    client.close().await;
}

async fn a_reindex_that_broke_off_leaves_nothing(bed: &Bed) {
    let files = files("REINDEX (VERBOSE) TABLE CONCURRENTLY t;");
    let client = made(bed, &files).await;
    // A TOAST table has an index too, and a name can look like a leftover.
    do_it(&client, "ALTER TABLE t ADD COLUMN c text; CREATE INDEX mine ON t (a); CREATE INDEX mine_ccnew ON t (b)")
        .await;
    let all = "SELECT count(*)::text FROM pg_index WHERE NOT indisvalid";
    broken_off(bed, &files).await;
    assert_ne!(one(&client, all).await, "0");
    let (report, said) = heard(bed, &files, &options()).await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(said.iter().any(|said| said.contains("invalid index public.mine_ccnew1; it is dropped")), "{said:?}");
    assert_eq!(one(&client, all).await, "0");
    assert_eq!(one(&client, INDEXES).await, "mine true, mine_ccnew true");
    client.close().await;
}

async fn a_name_that_is_too_long_is_cut_as_postgresql_cuts_it(bed: &Bed) {
    // 62 bytes, and then characters of two.
    let files = files(&format!("CREATE UNIQUE INDEX CONCURRENTLY \"{}äöü\" ON t (a);", "i".repeat(62)));
    let client = made(bed, &files).await;
    let failure = bed.fail(&files).await;
    let cut = "i".repeat(62);
    assert!(failure.aftermath.contains(&format!("left the invalid index public.{cut};")), "{failure}");
    do_it(&client, "DELETE FROM t").await;
    bed.run(&files).await;
    assert_eq!(one(&client, INDEXES).await, format!("{cut} true"));
    client.close().await;
}

async fn an_invalid_index_of_somebody_is_told_and_not_dropped(bed: &Bed) {
    let files = files("CREATE INDEX CONCURRENTLY IF NOT EXISTS mine ON t (a);");
    let client = made(bed, &files).await;
    somebody_elses(&client, "CREATE UNIQUE INDEX CONCURRENTLY mine ON t (a)").await;
    for _ in 0..2 {
        let failure = bed.fail(&files).await;
        assert!(
            failure.message.contains("invalid index public.mine already, which this file did not leave"),
            "{failure}"
        );
        assert!(failure.hint.is_some_and(|hint| hint.contains("DROP INDEX CONCURRENTLY public.mine")));
        assert_eq!(one(&client, INDEXES).await, "mine false");
    }
    do_it(&client, "DROP INDEX mine").await;
    bed.run(&files).await;
    assert_eq!(one(&client, INDEXES).await, "mine true");
    client.close().await;
}

async fn an_index_that_was_made_and_not_noted_is_not_made_again(bed: &Bed) {
    let files = files("CREATE INDEX CONCURRENTLY mine ON t (a);");
    let client = made(bed, &files).await;
    broken_off(bed, &files).await;
    // As if the session had ended a moment later.
    do_it(&client, "DROP INDEX mine; CREATE INDEX mine ON t (a)").await;
    bed.run(&files).await;
    assert_eq!(one(&client, INDEXES).await, "mine true");
    // But one that was there before is not its own.
    let other =
        [&files[..], &[file("a/3.sql", "-- no-transaction\nSELECT 1;\nCREATE INDEX CONCURRENTLY mine ON t (a);")]];
    for _ in 0..2 {
        assert_eq!(bed.fail(&other.concat()).await.sqlstate.as_deref(), Some("42P07"));
    }
    client.close().await;
}

async fn an_index_that_somebody_builds_just_now_is_waited_for(bed: &Bed) {
    let files = files("CREATE INDEX CONCURRENTLY ON t (a);");
    let client = made(bed, &files).await;
    broken_off(bed, &files).await;
    let writer = bed.client().await;
    do_it(&writer, "BEGIN; UPDATE t SET b = 2").await;
    let builder = bed.client().await;
    let building = async { do_it(&builder, "CREATE INDEX CONCURRENTLY ON t (a)").await };
    let running = async {
        let built = "SELECT count(*)::text FROM pg_index WHERE indrelid = 't'::regclass";
        while one(&client, built).await != "2" {
            tokio::task::yield_now().await;
        }
        let never = Options { lock_retries: 0, ..options() };
        let report = bed.try_run(&files, &never).await.expect("a run");
        let failure = report.files[0].failure.clone().expect("somebody is at work");
        assert!(failure.message.contains("is at work on the table of the invalid index"), "{failure}");
        do_it(&writer, "ROLLBACK").await;
    };
    tokio::join!(building, running);
    assert_eq!(one(&client, INDEXES).await, "t_a_idx false, t_a_idx1 true");
    bed.run(&files).await;
    // Its own is made anew, and the other one stays.
    assert_eq!(one(&client, INDEXES).await, "t_a_idx true, t_a_idx1 true");
    for client in [client, writer, builder] {
        client.close().await;
    }
}
