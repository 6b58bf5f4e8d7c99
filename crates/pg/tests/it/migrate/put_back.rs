//! What a file sets or leaves is put back before the next one is even read.

use super::{Bed, apart, file, on_both, options};
use crate::server::one;
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::RunReport;
use pgdb_pg::migrate::run::{Options, with_lock};
use pgdb_pg::migrate::session::Session;
use std::time::Duration;

on_both!(what_a_file_sets_does_not_reach_the_next);
on_both!(what_a_file_leaves_does_not_reach_the_next);
on_both!(a_session_that_is_only_read_from_is_given_back);
on_both!(what_was_run_is_on_the_disk_whatever_a_file_sets);
on_both!(a_session_that_is_somebody_elses_too_is_refused);

/// Each sets something, and what the next one does with it tells.
fn setting() -> Vec<File> {
    vec![
        file(
            "a/01.sql",
            "CREATE TABLE told (n serial, what text); CREATE TABLE \"é\" (a int); SET client_encoding = 'LATIN1';",
        ),
        file("a/02_é.sql", "INSERT INTO told (what) VALUES ('é'); SET standard_conforming_strings = off;"),
        file(
            "a/03.sql",
            "INSERT INTO told (what) VALUES ('a\\nb'); SET default_transaction_isolation = 'serializable';",
        ),
        file(
            "a/04.sql",
            "INSERT INTO told (what) SELECT current_setting('transaction_isolation'); \
             SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;",
        ),
        file("a/05.sql", "SET client_encoding = 'LATIN1'; ALTER TABLE \"é\" ADD COLUMN b int; SELECT 'é';"),
        file("a/06.sql", "INSERT INTO told (what) VALUES (current_setting('client_encoding'));"),
    ]
}

async fn what_a_file_sets_does_not_reach_the_next(bed: &Bed) {
    let told = |schema: &str| {
        format!(
            "SELECT string_agg(what, ' ' ORDER BY n) FROM {schema}.told WHERE what NOT LIKE 'a%' OR what = 'a' || chr(92) || 'nb'"
        )
    };
    let keys = "SELECT string_agg(key, ' ' ORDER BY id) FROM pgdb.migrations WHERE outcome = 'applied'";
    // What the session says in another encoding is none of ours.
    let all = "a/01.sql a/02_é.sql a/03.sql a/04.sql a/05.sql a/06.sql";
    bed.run(&setting()).await;
    assert_eq!(bed.ask(&told("public")).await, "é a\\nb read committed UTF8");
    assert_eq!(bed.ask(keys).await, all);

    let admin = apart::roles(bed).await;
    admin.batch("begin anew", "DROP TABLE public.told, public.\"é\"; DROP SCHEMA pgdb CASCADE").await.expect("gone");
    admin.close().await;
    let report = apart::try_run(bed, &setting(), &options()).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(bed.ask(&told("public")).await, "é a\\nb read committed UTF8");
    assert_eq!(bed.ask(keys).await, all);
}

async fn what_a_file_leaves_does_not_reach_the_next(bed: &Bed) {
    let leaves = "PREPARE rest AS SELECT 1; DECLARE kept CURSOR WITH HOLD FOR SELECT 1; LISTEN to_that;";
    let looks = "CREATE TABLE seen AS SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name = 'rest') \
                 + (SELECT count(*) FROM pg_cursors WHERE name = 'kept') + (SELECT count(*) FROM pg_listening_channels()) AS n;";
    let again = looks.replace("seen", "seen_again");
    let in_steps = format!("-- no-transaction\n{leaves}");
    let files = [file("a/1.sql", leaves), file("a/2.sql", looks), file("a/3.sql", &in_steps), file("a/4.sql", &again)];
    let answer = "SELECT (SELECT n FROM seen) || ' ' || (SELECT n FROM seen_again)";
    bed.run(&files).await;
    assert_eq!(bed.ask(answer).await, "0 0");
    let admin = apart::roles(bed).await;
    admin.batch("begin anew", "DROP TABLE seen, seen_again; DROP SCHEMA pgdb CASCADE").await.expect("gone");
    admin.close().await;
    let report = apart::try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(bed.ask(answer).await, "0 0");
}

async fn a_session_that_is_only_read_from_is_given_back(bed: &Bed) {
    let go_on = Options { keep_going: true, ..options() };
    let files = [
        file("a/1.sql", "CREATE TABLE t (a int); SET default_transaction_read_only = on;"),
        file("a/2.sql", "SET default_transaction_read_only = on; SELECT 1/0;"),
        file("a/3.sql", "INSERT INTO t VALUES (1);"),
    ];
    let report = bed.try_run(&files, &go_on).await.expect("a run");
    assert_eq!((report.applied, report.failed), (2, 1), "{report:#?}");
    assert_eq!(
        bed.ask("SELECT string_agg(key || ' ' || outcome, ', ' ORDER BY id) FROM pgdb.migrations").await,
        "a/1.sql applied, a/2.sql failed, a/3.sql applied"
    );
}

async fn what_was_run_is_on_the_disk_whatever_a_file_sets(bed: &Bed) {
    let admin = bed.client().await;
    // So that nothing gets to the disk by itself while this looks.
    admin.batch("slow it down", "ALTER SYSTEM SET wal_writer_delay = '10s'").await.expect("set");
    one(&admin, "SELECT pg_reload_conf()::text").await;
    let fill = |first: u32, last: &str| -> Vec<File> {
        let text = |n: u32| if n == first + 7 { last.to_owned() } else { format!("CREATE TABLE t{n} (a int);") };
        (first..first + 8).map(|n| file(&format!("a/{n:03}.sql"), &text(n))).collect()
    };
    for (first, last) in [
        (100, "SET LOCAL synchronous_commit = off; INSERT INTO t100 VALUES (1);"),
        (200, "SET synchronous_commit = off; INSERT INTO t200 VALUES (1);"),
        (300, "-- no-transaction\nSET synchronous_commit = off;\nINSERT INTO t300 VALUES (1);"),
        (400, "SET synchronous_commit = off; SELECT 1/0;"),
    ] {
        // What tells PostgREST comes after it all, and need not be there.
        let quiet = Options { notify: false, ..options() };
        let report: RunReport = bed.try_run(&fill(first, last), &quiet).await.expect("a run");
        assert_eq!(report.applied, if first == 400 { 7 } else { 8 }, "{report:#?}");
        // Of the log, in bytes; a file's transaction is more, and what the server notes by itself less.
        let behind = "SELECT (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::int::text";
        let behind: u32 = one(&admin, behind).await.parse().expect("a number");
        assert!(behind < 300, "{behind} bytes are not on the disk after {last}");
    }
    admin.close().await;
}

async fn a_session_that_is_somebody_elses_too_is_refused(bed: &Bed) {
    let session: Session = bed.session().await;
    // As behind a pooler that gives the server's session to whoever has a transaction.
    let within = with_lock(&session, async || {
        Ok(with_lock(&session, async || Ok(())).await.map_err(|error: MigrateError| error.to_string()))
    });
    let inner = tokio::time::timeout(Duration::from_secs(60), within).await.expect("no wait").expect("the outer lock");
    let error = inner.expect_err("the lock is held");
    assert!(error.contains("pooler"), "{error}");
    session.close().await;
}
