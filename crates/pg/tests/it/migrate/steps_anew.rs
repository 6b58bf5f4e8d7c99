//! Going on with a file without a transaction: behind what was done, in a session that is as it was left.

use super::{Bed, file, on_both, options, word};
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::{Changed, Policy};
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::run::{Options, run};

on_both!(what_is_done_is_not_forgotten_because_of_a_later_failure);
on_both!(a_corrected_statement_goes_on_behind_what_is_done);
on_both!(a_changed_begin_is_refused_or_begun_anew);
on_both!(settings_are_made_again_before_it_goes_on);
on_both!(what_a_session_has_lost_is_told);
on_both!(a_chain_of_transactions_is_gone_on_with);
on_both!(a_do_and_its_note_are_one_transaction_unless_it_commits);

const LOG: &str = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM public.log";
const ROWS: &str = "SELECT string_agg(outcome || ' ' || coalesce(statements_done::text, '-') || ' ' || attempts, ', ' \
     ORDER BY id) FROM pgdb.migrations WHERE key = 'a/2.sql'";

/// A table to write into, and the file.
fn files(text: &str) -> Vec<File> {
    let table =
        file("a/1.sql", "CREATE TABLE public.log (n int); CREATE SCHEMA other; CREATE TABLE other.log (n int);");
    vec![table, file("a/2.sql", &format!("-- no-transaction\n{text}"))]
}

async fn mend(bed: &Bed, sql: &str) {
    let client = bed.client().await;
    client.batch("mend", sql).await.expect(sql);
    client.close().await;
}

/// Runs to the end, and gives what was said.
async fn heard(bed: &Bed, files: &[File]) -> Vec<String> {
    let mut heard = Vec::new();
    let mut session = bed.session().await;
    let report = run(&mut session, files, &options(), &mut |event| heard.extend(word(&event))).await.expect("a run");
    session.close().await;
    assert!(report.is_complete(), "{report:#?}");
    heard
}

async fn what_is_done_is_not_forgotten_because_of_a_later_failure(bed: &Bed) {
    let files = files("INSERT INTO public.log VALUES (1);\nINSERT INTO public.log SELECT 2 FROM later;");
    bed.fail(&files).await;
    let typo = Options { role: Some("nobody_of_this_name".to_owned()), ..options() };
    for _ in 0..2 {
        let report = bed.try_run(&files, &typo).await.expect("a run");
        assert_eq!(report.failed, 1, "{report:#?}");
    }
    assert_eq!(bed.ask(ROWS).await, "unfinished 1 3");
    mend(bed, "CREATE TABLE later AS SELECT 1").await;
    bed.run(&files).await;
    assert_eq!((bed.ask(LOG).await, bed.ask(ROWS).await), ("1 2".to_owned(), "applied 2 3".to_owned()));
    // A row that an older version wrote beside it changes nothing either.
    let half = "INSERT INTO public.log VALUES (3);\n";
    bed.fail(&with(&files, &format!("{half}x;"))).await;
    let failed = "INSERT INTO pgdb.migrations (key, sha256, outcome, version) VALUES ('a/3.sql', 'x', 'failed', '1')";
    mend(bed, failed).await;
    bed.run(&with(&files, &format!("{half}INSERT INTO public.log VALUES (4);"))).await;
    assert_eq!(bed.ask(LOG).await, "1 2 3 4");
}

async fn a_corrected_statement_goes_on_behind_what_is_done(bed: &Bed) {
    let wrong =
        "INSERT INTO public.log VALUES (1);\nCOPY public.log FROM STDIN;\n2\n\\.\nINSERT INTO public.lag VALUES (3);";
    let failure = bed.fail(&files(wrong)).await;
    assert_eq!(failure.statement, Some(3), "{failure}");
    let said = heard(bed, &files(&wrong.replace("lag", "log"))).await;
    assert!(said.iter().any(|said| said.contains("did 2 of 3 statements; it goes on from there")), "{said:?}");
    assert_eq!((bed.ask(LOG).await, bed.ask(ROWS).await), ("1 2 3".to_owned(), "applied 3 1".to_owned()));
    let checksums = "SELECT count(DISTINCT sha256)::text FROM pgdb.migrations WHERE key = 'a/2.sql'";
    assert_eq!(bed.ask(checksums).await, "1");
    bed.run(&files(&wrong.replace("lag", "log"))).await;
}

async fn a_changed_begin_is_refused_or_begun_anew(bed: &Bed) {
    bed.fail(&files("INSERT INTO public.log VALUES (1);\nx;")).await;
    let changed = files("INSERT INTO public.log VALUES (7);\nINSERT INTO public.log VALUES (8);");
    let refused = bed.try_run(&changed, &options()).await.expect_err("the begin was changed");
    assert!(matches!(refused, MigrateError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("'a/2.sql' was changed in the part that an earlier run did"), "{refused}");
    assert_eq!(bed.ask(LOG).await, "1");
    let again = Options { policy: Policy { changed: Changed::Rerun, ..Policy::default() }, ..options() };
    let report = bed.try_run(&changed, &again).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(bed.ask(LOG).await, "1 7 8");
}

async fn settings_are_made_again_before_it_goes_on(bed: &Bed) {
    mend(bed, "CREATE ROLE app; CREATE ROLE beside; GRANT CREATE ON DATABASE target TO app").await;
    let text = "BEGIN; SET search_path TO nowhere; ROLLBACK;\nSET search_path TO other;\n\
                BEGIN; SET a.b TO 'kept'; SET LOCAL a.c TO 'x'; COMMIT;\nSELECT pg_catalog.set_config('a.d', 'too', false);\n\
                GRANT ALL ON SCHEMA other TO app; GRANT ALL ON log TO app;\nSET ROLE beside; RESET ROLE; SET ROLE app;\n";
    let rest = "INSERT INTO log VALUES (1);\nCREATE TABLE mine AS SELECT current_setting('a.b') || current_setting('a.d') AS s;";
    bed.fail(&files(&format!("{text}x;\n{rest}"))).await;
    bed.run(&files(&format!("{text}{rest}"))).await;
    assert_eq!(
        bed.ask("SELECT (SELECT count(*) FROM public.log) || ' ' || (SELECT count(*) FROM other.log)").await,
        "0 1"
    );
    let mine = "SELECT tableowner || ' ' || schemaname || ' ' || (SELECT s FROM other.mine) FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!(bed.ask(mine).await, "app other kepttoo");
}

async fn what_a_session_has_lost_is_told(bed: &Bed) {
    for (number, (lost, what)) in [
        ("CREATE TEMP TABLE t AS SELECT 1 AS n", "something temporary"),
        ("PREPARE q AS SELECT 1", "a prepared statement"),
        ("DO $$ BEGIN PERFORM set_config('search_path', 'other', false); END $$", "a setting"),
        ("SELECT pg_advisory_lock(7)", "an advisory lock"),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("b/{number}.sql");
        let half = |last: &str| [file(&key, &format!("-- no-transaction\nSELECT 1;\n{lost};\n{last};"))];
        bed.fail(&half("x")).await;
        let failure = bed.fail(&half("SELECT 1")).await;
        assert_eq!((failure.line, failure.statement), (Some(3), Some(2)), "{failure}");
        assert!(failure.message.contains(&format!("left {what}")), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains(&format!("repair {key} --done"))));
        // Told each time: nothing of it is run.
        assert!(bed.fail(&half("SELECT 2")).await.message.contains("left"));
    }
}

async fn a_chain_of_transactions_is_gone_on_with(bed: &Bed) {
    let text = "BEGIN ISOLATION LEVEL SERIALIZABLE;\nINSERT INTO public.log VALUES (1);\nCOMMIT AND CHAIN;\n\
                INSERT INTO public.log VALUES (2);\nROLLBACK AND CHAIN;\nINSERT INTO public.log VALUES (3);\n";
    let level =
        "INSERT INTO public.log SELECT 4 WHERE current_setting('transaction_isolation') = 'serializable';\nCOMMIT;\n";
    let failure = bed.fail(&files(&format!("{text}x;\n{level}"))).await;
    assert!(failure.aftermath.contains("first 3 statements are done"), "{failure}");
    assert_eq!((bed.ask(LOG).await, bed.ask(ROWS).await), ("1".to_owned(), "unfinished 3 1".to_owned()));
    bed.run(&files(&format!("{text}{level}"))).await;
    assert_eq!(bed.ask(LOG).await, "1 3 4");
    // What is chained is not over: its COMMIT is missing.
    let open = bed.fail(&[file("c/1.sql", "-- no-transaction\nBEGIN; COMMIT AND CHAIN; SELECT 1;")]).await;
    assert!(open.message.contains("COMMIT is missing"), "{open}");
}

async fn a_do_and_its_note_are_one_transaction_unless_it_commits(bed: &Bed) {
    // The file itself looks which transaction has noted the statement before.
    let look = |n: u32| {
        format!(
            "INSERT INTO public.log SELECT 10 * {n} + (l.xmin = m.xmin)::int FROM public.log l, pgdb.migrations m \
             WHERE l.n = {n} AND m.key = 'a/2.sql';\n"
        )
    };
    let text = format!(
        "DO $$ BEGIN INSERT INTO public.log VALUES (1); END $$;\n{}CALL two();\n{}\
         DO $$ BEGIN INSERT INTO public.log VALUES (3); COMMIT; INSERT INTO public.log VALUES (4); END $$;\n{}",
        look(1),
        look(2),
        look(4)
    );
    let mut files = files(&text);
    let two = "CREATE PROCEDURE two() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (2); END $$;";
    files.insert(1, file("a/1b.sql", two));
    bed.run(&files).await;
    assert_eq!(bed.ask(LOG).await, "1 2 3 4 11 21 40");
}

fn with(files: &[File], text: &str) -> Vec<File> {
    [files, &[file("a/3.sql", &format!("-- no-transaction\n{text}"))]].concat()
}
