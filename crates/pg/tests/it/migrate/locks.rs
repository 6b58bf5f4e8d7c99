//! One migrator at a time, locks of others, and the locks that a file takes.

use super::{Bed, apart, file, on_both, options, word};
use crate::server::one;
use pgdb_core::migration::file::File;
use pgdb_core::migration::ledger::SeenLock;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::report::{Event, FileReport, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use std::collections::BTreeSet;
use std::time::Duration;

on_both!(of_four_migrators_all_succeed_and_each_file_runs_once);
on_both!(a_migrator_waits_for_another_and_says_for_whom);
on_both!(a_lock_that_cannot_be_had_is_tried_again);
on_both!(a_file_that_prepares_something_can_be_tried_again);
on_both!(a_deadlock_and_a_serialization_failure_are_tried_again);
on_both!(what_a_file_locks_is_in_the_ledger);
on_both!(a_lock_that_is_taken_late_is_told_with_its_own_time);
on_both!(what_a_file_in_steps_locks_is_in_the_ledger);
on_both!(what_a_file_locks_in_a_session_of_its_own_is_in_the_ledger);

async fn of_four_migrators_all_succeed_and_each_file_runs_once(bed: &Bed) {
    let mut files = vec![file("a/000.sql", "CREATE TABLE ran (n int); INSERT INTO ran VALUES (0);")];
    files.extend((1..40).map(|n| {
        let head = if n % 10 == 0 { "-- no-transaction\n" } else { "" };
        file(&format!("a/{n:03}.sql"), &format!("{head}INSERT INTO ran VALUES ({n});"))
    }));
    let (one, two, three, four) = tokio::join!(bed.run(&files), bed.run(&files), bed.run(&files), bed.run(&files));
    let applied: usize = [&one, &two, &three, &four].iter().map(|report| report.applied).sum();
    assert_eq!(applied, files.len());
    assert_eq!(bed.ask("SELECT count(*) || ' ' || count(DISTINCT n) FROM ran").await, "40 40");
}

async fn a_migrator_waits_for_another_and_says_for_whom(bed: &Bed) {
    let (begun, mut first_has_begun) = tokio::sync::mpsc::unbounded_channel();
    let (waits, mut second_waits) = tokio::sync::mpsc::unbounded_channel();
    let gate = bed.client().await;
    gate.batch("close the gate", "SELECT pg_advisory_lock(4711)").await.expect("closed");
    let files = [file("a/1.sql", "SELECT pg_advisory_xact_lock(4711); CREATE TABLE once ();")];
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let first = async {
        let mut session = bed.session().await;
        let tell = &mut |event: Event<'_>| {
            if matches!(event, Event::Started { .. }) {
                begun.send(()).expect("the test listens");
            }
        };
        run(&mut session, &files, &patient, tell).await.expect("the first run")
    };
    let second = async {
        first_has_begun.recv().await.expect("the first has begun");
        let none = Options { wait: Duration::ZERO, ..options() };
        let error = bed.try_run(&files, &none).await.expect_err("the lock is taken");
        assert!(matches!(error, MigrateError::Locked { .. }) && error.to_string().contains("pgdb"), "{error}");
        let mut session = bed.session().await;
        let mut said = Vec::new();
        let tell = &mut |event: Event<'_>| {
            said.extend(word(&event));
            if matches!(event, Event::Waiting { .. }) {
                // The first may go on now.
                waits.send(()).expect("the gate listens");
            }
        };
        let report = run(&mut session, &files, &options(), tell).await.expect("the second run");
        (report, said)
    };
    let opener = async {
        second_waits.recv().await.expect("the second waits");
        gate.batch("open the gate", "SELECT pg_advisory_unlock(4711)").await.expect("opened");
    };
    let (first, (second, said), ()) = tokio::join!(first, second, opener);
    assert_eq!((first.applied, second.applied, second.is_complete()), (1, 0, true));
    assert!(said[0].starts_with("waiting: process ") && said[0].contains("role pgdb_admin"), "{said:?}");
}

async fn a_lock_that_cannot_be_had_is_tried_again(bed: &Bed) {
    bed.run(&[file("a/1.sql", "CREATE TABLE busy (a int); INSERT INTO busy VALUES (1);")]).await;
    let impatient = Options { lock_timeout: Duration::from_millis(20), ..options() };
    let alter = |head: &str, column: &str| format!("{head}ALTER TABLE busy ADD COLUMN {column} int;");
    let files = [
        file("a/1.sql", "CREATE TABLE busy (a int); INSERT INTO busy VALUES (1);"),
        file("a/2.sql", &alter("CREATE TABLE beside ();\n", "b")),
        file("a/3.sql", &alter("-- no-transaction\n", "c")),
        file("a/4.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY busy_a ON busy (a);"),
    ];
    let never = Options { lock_retries: 0, ..impatient.clone() };
    let hold = async |client: &pgdb_pg::Client| client.batch("hold", "BEGIN; LOCK TABLE busy").await.expect("held");
    let holder = bed.client().await;
    hold(&holder).await;
    let report = bed.try_run(&files, &never).await.expect("a run");
    let failure = report.files[0].failure.as_ref().expect("no lock");
    assert_eq!((failure.sqlstate.as_deref(), failure.line, report.not_reached.len()), (Some("55P03"), Some(2), 2));
    assert!(failure.hint.is_some());
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('beside')::text, 'none')").await, "none");

    let mut session = bed.session().await;
    let (retry, mut retried) = tokio::sync::mpsc::unbounded_channel();
    let mut heard = Vec::new();
    let running = async {
        let tell = &mut |event: Event<'_>| {
            heard.extend(word(&event));
            if matches!(event, Event::Retrying { .. }) {
                retry.send(()).expect("the test listens");
            }
        };
        let report = run(&mut session, &files, &impatient, tell).await.expect("a run");
        drop(retry);
        report
    };
    let letting_go = async {
        // Each file finds the table locked once more.
        while retried.recv().await.is_some() {
            holder.batch("let go", "COMMIT").await.expect("let go");
        }
    };
    let (report, ()) = tokio::join!(running, letting_go);
    assert!(report.is_complete() && report.files[0].retries >= 1, "{report:#?}");
    assert!(heard.iter().any(|word| word == "retrying after 1"), "{heard:?}");
    session.close().await;
    let columns = "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'busy'::regclass AND attnum > 0";
    assert_eq!(bed.ask(columns).await, "3");
    assert_eq!(bed.ask("SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'busy_a'::regclass").await, "true");
}

async fn a_deadlock_and_a_serialization_failure_are_tried_again(bed: &Bed) {
    // What a sequence counts no rollback takes back.
    let text = "DO $$ DECLARE n bigint := nextval('tries'); BEGIN \
         IF n = 1 THEN RAISE SQLSTATE '40P01'; ELSIF n = 2 THEN RAISE SQLSTATE '40001'; END IF; END $$";
    let steps = format!("-- no-transaction\n{text};");
    let anew = "ALTER SEQUENCE tries RESTART";
    let files = [
        file("a/1.sql", "CREATE SEQUENCE tries"),
        file("a/2.sql", text),
        file("a/3.sql", anew),
        file("a/4.sql", &steps),
    ];
    let report = bed.run(&files).await;
    assert_eq!(report.files.iter().map(|file| file.retries).collect::<Vec<_>>(), [0, 2, 0, 2]);
}

async fn a_file_that_prepares_something_can_be_tried_again(bed: &Bed) {
    let holder = bed.client().await;
    holder.batch("make", "CREATE TABLE busy (a int)").await.expect("made");
    holder.batch("hold", "BEGIN; LOCK TABLE busy").await.expect("held");
    let prepares = "PREPARE fill AS INSERT INTO beside VALUES (1); EXECUTE fill; ALTER TABLE busy ADD COLUMN b int;";
    let files = [file("a/1.sql", "CREATE TABLE beside (a int);"), file("a/2.sql", prepares)];
    let impatient = Options { lock_timeout: Duration::from_millis(20), ..options() };
    let mut session = bed.session().await;
    let (retry, mut retried) = tokio::sync::mpsc::unbounded_channel();
    let running = async {
        let tell = &mut |event: Event<'_>| {
            if matches!(event, Event::Retrying { .. }) {
                // The holder may have let go before.
                let _ = retry.send(());
            }
        };
        run(&mut session, &files, &impatient, tell).await.expect("a run")
    };
    let letting_go = async {
        retried.recv().await.expect("it is tried again");
        holder.batch("let go", "COMMIT").await.expect("let go");
    };
    let (report, ()) = tokio::join!(running, letting_go);
    assert!(report.is_complete() && report.files[1].retries >= 1, "{report:#?}");
    assert_eq!(bed.ask("SELECT count(*)::text FROM beside").await, "1");
    session.close().await;
    holder.close().await;
}

async fn what_a_file_locks_is_in_the_ledger(bed: &Bed) {
    let files: [File; 4] = [
        file("a/1.sql", "CREATE TABLE t (a int); CREATE TABLE other (a int); ALTER TABLE t ADD COLUMN b int;"),
        file("a/2.sql", "CREATE INDEX ON t (a); INSERT INTO other VALUES (1);"),
        file("a/3.sql", "SAVEPOINT s; CREATE TABLE fresh (); ALTER TABLE t ADD COLUMN c int; CREATE INDEX ON t (b);"),
        file("a/4.sql", "CREATE VIEW v AS SELECT * FROM t; SELECT * FROM t;"),
    ];
    let report = bed.run(&files).await;
    let locks = |index: usize| -> Vec<String> {
        let locks = report.files[index].locks.iter().map(|lock| format!("{} {}", lock.relation, lock.mode));
        locks.collect::<BTreeSet<_>>().into_iter().collect()
    };
    assert_eq!(locks(0), Vec::<String>::new());
    assert_eq!(locks(1), ["public.t ShareLock"]);
    assert_eq!(locks(2), ["public.t AccessExclusiveLock", "public.t ShareLock"]);
    assert_eq!(locks(3), Vec::<String>::new());
    // Its row in pg_type is another one then.
    for (key, rename) in [("b/1.sql", "ALTER TABLE t RENAME TO r;"), ("b/2.sql", "ALTER TABLE r RENAME TO t;")] {
        let text = format!("{rename} CREATE TABLE fresh_{} ();", &key[2..3]);
        let report = bed.run(&[file(key, &text)]).await;
        let locked: Vec<&str> = report.files[0].locks.iter().map(|lock| lock.mode.as_str()).collect();
        assert_eq!(locked, ["AccessExclusiveLock"], "{report:#?}");
    }
    let client = bed.client().await;
    let rows = ledger::history(&client, Some("a/3.sql"), 10).await.expect("read").expect("a ledger");
    assert_eq!(rows[0].locks, report.files[2].locks);
    assert!(rows[0].locks[0].held_ms >= 0 && rows[0].applied_by == "pgdb_admin" && rows[0].version == "test");
    let age = one(&client, "SELECT (extract(epoch FROM now()))::bigint::text").await.parse::<i64>().expect("a number");
    assert!((rows[0].applied_at.as_second() - age).abs() < 60, "{rows:?}");
    client.close().await;
}

async fn a_lock_that_is_taken_late_is_told_with_its_own_time(bed: &Bed) {
    let long = "LOCK TABLE public.u IN SHARE MODE; SELECT pg_sleep(1.5);";
    let busy = "INSERT INTO u SELECT count(*) FROM generate_series(1, 4000) a, generate_series(1, 4000) b;";
    let mut files = vec![
        file("a/1.sql", "CREATE TABLE public.t (a int); CREATE TABLE public.u (a int);"),
        file("a/2.sql", &format!("{long} CREATE INDEX ON public.t (a);")),
        file("a/3.sql", &format!("COPY public.u FROM stdin;\n1\n\\.\n{long} ALTER TABLE public.t ADD COLUMN b int;")),
        file("a/4.sql", "ALTER TABLE public.t RENAME TO r; SELECT pg_sleep(1.5); ALTER TABLE public.r RENAME TO t;"),
        file("a/5.sql", "ALTER TABLE public.t RENAME TO r; SELECT pg_sleep(1.5);"),
    ];
    // What of a file is told: each lock, and whether it was there for most of the time.
    let told = |report: &RunReport| -> Vec<String> {
        let file = |file: &FileReport| {
            let took = i64::try_from(file.took_ms).expect("milliseconds");
            let long = |lock: &SeenLock| if lock.held_ms > took * 3 / 4 { "long" } else { "short" };
            let mut locks: Vec<String> =
                file.locks.iter().map(|lock| format!("{} {} {}", lock.relation, lock.mode, long(lock))).collect();
            locks.sort();
            locks.join(", ")
        };
        report.files.iter().map(file).collect()
    };
    let mut expected = [
        "",
        "public.t ShareLock short, public.u ShareLock long",
        "public.t AccessExclusiveLock short, public.u ShareLock long",
        "public.t AccessExclusiveLock long",
        "public.t AccessExclusiveLock long",
    ];
    let admin = apart::roles(bed).await;
    let kept = async || -> Vec<Vec<SeenLock>> {
        let rows = ledger::history(&admin, None, 20).await.expect("read").expect("a ledger");
        rows.into_iter().rev().map(|row| row.locks).collect()
    };
    let locks = |report: RunReport| report.files.into_iter().map(|file| file.locks).collect::<Vec<_>>();
    let apart = apart::try_run(bed, &files, &options()).await.expect("a run of two sessions");
    assert_eq!(told(&apart), expected);
    assert_eq!(kept().await, locks(apart));
    admin.batch("begin anew", "DROP TABLE public.r, public.u; DROP SCHEMA pgdb CASCADE").await.expect("gone");
    // The session that has renamed it knows it by its new name, and the one that looks by its old one.
    expected[4] = "public.r AccessExclusiveLock long";
    // Those that are sent ahead.
    files.extend((1..=6).map(|number| {
        let busy = if number == 4 { busy } else { "" };
        file(&format!("b/{number}.sql"), &format!("{busy} ALTER TABLE r ADD COLUMN b{number} int;"))
    }));
    let report = bed.run(&files).await;
    assert_eq!(told(&report)[..5], expected);
    assert_eq!(told(&report)[8], "public.r AccessExclusiveLock short", "{:#?}", report.files[8]);
    // The row of one that took next to no time may say as long as its message took.
    let (kept, locks) = (kept().await, locks(report));
    assert_eq!((&kept[..5], &kept[8]), (&locks[..5], &locks[8]));
    admin.close().await;
}

async fn what_a_file_in_steps_locks_is_in_the_ledger(bed: &Bed) {
    let files = [
        file("a/1.sql", "CREATE TABLE t (a int); CREATE TABLE u (a int); CREATE TABLE v (a int);"),
        file(
            "a/2.sql",
            "-- no-transaction\nALTER TABLE t ADD COLUMN b int;\nINSERT INTO t VALUES (1);\nCREATE TABLE fresh ();\n\
             BEGIN; LOCK TABLE u IN EXCLUSIVE MODE; COMMIT;\nBEGIN; LOCK TABLE v; ROLLBACK;\n\
             CREATE INDEX CONCURRENTLY ON t (a);\nALTER TABLE t ADD COLUMN c int;",
        ),
    ];
    bed.run(&files[..1]).await;
    let writer = bed.client().await;
    let hold = "BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE";
    // Held once the file is at its index, which then waits for us while it is looked at.
    let (done, mut is_done) = tokio::sync::oneshot::channel::<()>();
    let client = bed.client().await;
    let gate = bed.client().await;
    gate.batch("close the gate", "SELECT pg_advisory_lock(4711)").await.expect("closed");
    let gated = [files[0].clone(), gated(&files[1])];
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let running = async {
        let report = bed.try_run(&gated, &patient).await.expect("a run");
        done.send(()).expect("the test listens");
        report
    };
    let holding = async {
        while one(&client, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await
            == "0"
        {
            tokio::task::yield_now().await;
        }
        writer.batch("hold", hold).await.expect("held");
        gate.batch("open the gate", "SELECT pg_advisory_unlock(4711)").await.expect("opened");
        let looked = "SELECT count(*)::text FROM pg_stat_activity a, pg_locks l WHERE a.query LIKE 'SELECT CASE l.locktype WHEN %' \
             AND a.pid <> pg_backend_pid() AND a.state = 'idle' AND l.locktype = 'virtualxid' AND NOT l.granted \
             AND l.pid <> a.pid AND a.query_start > (SELECT query_start FROM pg_stat_activity WHERE pid = l.pid)";
        while is_done.try_recv().is_err() {
            if one(&client, looked).await != "0" {
                writer.batch("let go", "COMMIT").await.expect("let go");
                break;
            }
        }
    };
    let (report, ()) = tokio::join!(running, holding);
    assert!(report.is_complete(), "{report:#?}");
    let told = |locks: &[SeenLock]| -> Vec<String> {
        let how = |lock: &SeenLock| if lock.sampled { "seen" } else { "exact" };
        locks.iter().map(|lock| format!("{} {} {}", lock.relation, lock.mode, how(lock))).collect()
    };
    let expected = [
        "public.t AccessExclusiveLock exact",
        "public.t ShareUpdateExclusiveLock seen",
        "public.u ExclusiveLock exact",
    ];
    assert_eq!(told(&report.files[0].locks), expected);
    let rows = ledger::history(&client, Some("a/2.sql"), 10).await.expect("read").expect("a ledger");
    assert_eq!((rows.len(), &rows[0].locks), (1, &report.files[0].locks));
    for client in [client, writer, gate] {
        client.close().await;
    }
}

/// The same file, waiting at the gate before it makes its index.
fn gated(file: &File) -> File {
    let sql = &file.content.as_ref().expect("good").sql;
    let wait = "SELECT pg_advisory_xact_lock(4711);\nCREATE INDEX";
    File::new(file.key.clone(), sql.replace("CREATE INDEX", wait).into_bytes())
}

async fn what_a_file_locks_in_a_session_of_its_own_is_in_the_ledger(bed: &Bed) {
    let admin = apart::roles(bed).await;
    let files = [
        file("a/1.sql", "CREATE TABLE public.t (a int);"),
        file(
            "a/2.sql",
            "-- no-transaction\nALTER TABLE public.t ADD COLUMN b int;\nVACUUM public.t;\n\
             BEGIN; LOCK TABLE public.t IN SHARE MODE; INSERT INTO public.t VALUES (1); COMMIT AND CHAIN;\n\
             LOCK TABLE public.t IN EXCLUSIVE MODE; COMMIT;",
        ),
    ];
    let report = apart::try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    let mut exact = report.files[1].locks.clone();
    // Whether the VACUUM was seen is a matter of luck.
    exact.retain(|lock| !lock.sampled);
    let exact: Vec<String> = exact.iter().map(|lock| format!("{} {}", lock.relation, lock.mode)).collect();
    let modes = ["AccessExclusiveLock", "ExclusiveLock", "ShareLock"];
    assert_eq!(exact, modes.map(|mode| format!("public.t {mode}")));
    admin.close().await;
}
