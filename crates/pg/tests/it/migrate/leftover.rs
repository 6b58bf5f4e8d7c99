//! Invalid indexes: what an attempt has left is removed, and nothing of anybody else's.

use super::{Bed, file, on_both, options, word};
use crate::server::one;
use pgdb_core::migration::file::File;
use pgdb_pg::Client;
use pgdb_pg::migrate::report::{Event, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use std::time::Duration;

on_both!(an_index_without_a_name_is_made_once);
on_both!(a_killed_index_is_made_anew_and_others_stay);
on_both!(a_killed_reindex_leaves_nothing);
on_both!(an_index_that_somebody_else_has_made_stays);

/// All indexes of `t`, with an exclamation mark where they are invalid.
const INDEXES: &str = "SELECT coalesce(string_agg(indexrelid::regclass || CASE WHEN indisvalid THEN '' ELSE '!' END, ' ' \
     ORDER BY indexrelid::regclass::text), '') FROM pg_index WHERE indrelid = 't'::regclass";

async fn heard(bed: &Bed, files: &[File]) -> (RunReport, Vec<String>) {
    let mut words = Vec::new();
    let mut session = bed.session().await;
    let report = run(&mut session, files, &options(), &mut |event| words.extend(word(&event))).await.expect("a run");
    session.close().await;
    (report, words)
}

/// Makes an invalid index of this name, as somebody who failed would.
async fn invalid(client: &Client, name: &str) {
    let sql = format!("CREATE UNIQUE INDEX CONCURRENTLY {name} ON t (a)");
    client.batch("fail to make an index", &sql).await.expect_err("two rows are the same");
}

/// A run whose statement waits for a transaction of somebody else's, and is killed there.
async fn killed(bed: &Bed, files: &[File]) {
    let holder = bed.client().await;
    holder.batch("hold", "BEGIN; INSERT INTO t VALUES (77)").await.expect("held");
    let watcher = bed.client().await;
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let mut session = bed.session().await;
    let tell = &mut |_: Event<'_>| {};
    let running = run(&mut session, files, &patient, tell);
    let killing = async {
        // The index is there, and its statement waits for the transaction that could not see it.
        let waits = "SELECT coalesce(max(pid), 0)::text FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted";
        let mut pid = one(&watcher, waits).await;
        while pid == "0" {
            tokio::task::yield_now().await;
            pid = one(&watcher, waits).await;
        }
        let kill = format!("SELECT pg_terminate_backend({pid})");
        watcher.batch("kill", &kill).await.expect("killed");
    };
    let (report, ()) = tokio::join!(running, killing);
    assert_eq!(report.expect("told").failed, 1);
    holder.batch("let go", "ROLLBACK").await.expect("let go");
    let gone = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'relation' AND relation = 't'::regclass";
    while one(&watcher, gone).await != "0" {
        tokio::task::yield_now().await;
    }
    holder.close().await;
    watcher.close().await;
}

async fn an_index_without_a_name_is_made_once(bed: &Bed) {
    let table = file("a/1.sql", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);");
    let files = [table.clone(), file("a/2.sql", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY ON t (a);")];
    bed.run(&files[..1]).await;
    let client = bed.client().await;
    invalid(&client, "others").await;
    let failure = bed.fail(&files).await;
    assert!(failure.aftermath.contains("left the invalid index public.t_a_idx"), "{failure}");
    assert_eq!(one(&client, INDEXES).await, "others! t_a_idx!");
    // Again the same, and not one more each time.
    bed.fail(&files).await;
    assert_eq!(one(&client, INDEXES).await, "others! t_a_idx!");
    client.batch("mend", "DELETE FROM t").await.expect("mended");
    let (report, words) = heard(bed, &files).await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(
        words.iter().any(|word| word.contains("left the invalid index public.t_a_idx; it is dropped")),
        "{words:?}"
    );
    assert_eq!(one(&client, INDEXES).await, "others! t_a_idx");
    assert_eq!(bed.ask("SELECT count(*)::text FROM pgdb.migrations WHERE doing IS NOT NULL").await, "0");

    // A file that was changed after it failed: what the earlier text has left goes too.
    client
        .batch("break", "INSERT INTO t VALUES (2); DROP INDEX t_a_idx; INSERT INTO t VALUES (2)")
        .await
        .expect("broken");
    let with = |text: &str| [&files[..], &[file("a/3.sql", text)]].concat();
    bed.fail(&with("-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY ON t (a);")).await;
    assert_eq!(one(&client, INDEXES).await, "others! t_a_idx!");
    bed.run(&with("-- no-transaction\nCREATE INDEX CONCURRENTLY plain ON t (a);")).await;
    assert_eq!(one(&client, INDEXES).await, "others! plain");
    client.close().await;
}

async fn a_killed_index_is_made_anew_and_others_stay(bed: &Bed) {
    let table = file("a/1.sql", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);");
    bed.run(std::slice::from_ref(&table)).await;
    let client = bed.client().await;
    invalid(&client, "before").await;
    for (statement, name) in
        [("CREATE INDEX CONCURRENTLY ON t (a)", "t_a_idx"), ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)", "i")]
    {
        let files = [table.clone(), file("a/2.sql", &format!("-- no-transaction\n{statement};"))];
        killed(bed, &files).await;
        assert_eq!(
            one(&client, INDEXES).await,
            one(&client, &format!("SELECT string_agg(n, ' ' ORDER BY n) FROM unnest(ARRAY['before!', '{name}!']) n"))
                .await
        );
        let (report, words) = heard(bed, &files).await;
        assert!(report.is_complete() && report.applied == 1, "{report:#?}");
        assert!(words.iter().any(|word| word.contains(&format!("public.{name}; it is dropped"))), "{words:?}");
        assert_eq!(
            one(&client, INDEXES).await,
            one(&client, &format!("SELECT string_agg(n, ' ' ORDER BY n) FROM unnest(ARRAY['before!', '{name}']) n"))
                .await
        );
        let anew = format!("DROP INDEX {name}; DELETE FROM pgdb.migrations WHERE key = 'a/2.sql'");
        client.batch("begin anew", &anew).await.expect("begun anew");
    }
    // Two that could be it: none is touched.
    let files = [table, file("a/2.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY ON t (a);")];
    killed(bed, &files).await;
    invalid(&client, "after").await;
    let (report, words) = heard(bed, &files).await;
    assert!(report.is_complete(), "{report:#?}");
    assert!(words.iter().any(|word| word.contains("it cannot be told which")), "{words:?}");
    assert_eq!(one(&client, INDEXES).await, "after! before! t_a_idx! t_a_idx1");
    client.close().await;
}

async fn a_killed_reindex_leaves_nothing(bed: &Bed) {
    let table = file("a/1.sql", "CREATE TABLE t (a int); CREATE INDEX i ON t (a); CREATE INDEX j ON t (a);");
    bed.run(std::slice::from_ref(&table)).await;
    let client = bed.client().await;
    for (statement, left) in
        [("REINDEX INDEX CONCURRENTLY i", "i i_ccnew! j"), ("REINDEX TABLE CONCURRENTLY t", "i i_ccnew! j j_ccnew!")]
    {
        let files = [table.clone(), file("a/2.sql", &format!("-- no-transaction\n{statement};"))];
        killed(bed, &files).await;
        assert_eq!(one(&client, INDEXES).await, left);
        let (report, words) = heard(bed, &files).await;
        assert!(report.is_complete(), "{report:#?}");
        assert!(words.iter().any(|word| word.contains("public.i_ccnew; it is dropped")), "{words:?}");
        assert_eq!(one(&client, INDEXES).await, "i j");
        client.batch("begin anew", "DELETE FROM pgdb.migrations WHERE key = 'a/2.sql'").await.expect("begun anew");
    }
    client.close().await;
}

async fn an_index_that_somebody_else_has_made_stays(bed: &Bed) {
    let files = [
        file("a/1.sql", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);"),
        file("a/2.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"),
    ];
    bed.run(&files[..1]).await;
    let client = bed.client().await;
    invalid(&client, "i").await;
    for _ in 0..2 {
        let failure = bed.fail(&files).await;
        assert_eq!(failure.sqlstate.as_deref(), Some("42P07"), "{failure}");
        assert_eq!(one(&client, INDEXES).await, "i!");
    }
    client.batch("make it whole", "DELETE FROM t; DROP INDEX i; CREATE INDEX i ON t (a)").await.expect("made");
    // Not ours either, although it is just what the file asks for.
    assert_eq!(bed.fail(&files).await.sqlstate.as_deref(), Some("42P07"));
    client.batch("drop it", "DROP INDEX i").await.expect("dropped");
    bed.run(&files).await;
    assert_eq!(one(&client, INDEXES).await, "i");
    client.close().await;
}
