//! What runs when, and that no file is changed by the one before it.

use super::{Bed, file, on_both, options};
use pgdb_core::migration::plan::{Changed, OutOfOrder, Policy};
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::Event;
use pgdb_pg::migrate::run::{Options, run};

on_both!(changed_late_and_missing_files);
on_both!(a_row_that_only_a_later_version_knows_is_not_passed_over);
on_both!(repeatable_files_run_when_they_change);
on_both!(no_file_sees_what_another_one_set);
on_both!(files_run_as_a_role_and_the_ledger_does_not);
on_both!(postgrest_is_told_once);

async fn changed_late_and_missing_files(bed: &Bed) {
    let log = |text: &str| format!("CREATE TABLE IF NOT EXISTS log (n text); INSERT INTO log VALUES ('{text}');");
    let ran = "SELECT coalesce(string_agg(n, ' ' ORDER BY ctid), '') FROM log";
    bed.run(&[file("a/002.sql", &log("a2")), file("b/001.sql", &log("b1")), file("a/10.sql", &log("a10"))]).await;
    assert_eq!(bed.ask(ran).await, "a2 a10 b1");

    let changed = [file("a/002.sql", &log("a2 anew")), file("b/001.sql", &log("b1")), file("b/002.sql", &log("b2"))];
    let refused = bed.try_run(&changed, &options()).await.expect_err("a changed file");
    assert!(refused.to_string().contains("'a/002.sql' was changed after it was run"), "{refused}");
    assert_eq!(bed.ask(ran).await, "a2 a10 b1");
    let rerun = Options { policy: Policy { changed: Changed::Rerun, ..Policy::default() }, ..options() };
    // a/10.sql is gone meanwhile, which is no reason not to run.
    assert_eq!(bed.try_run(&changed, &rerun).await.expect("a run").applied, 2);
    assert_eq!(bed.ask(ran).await, "a2 a10 b1 a2 anew b2");
    assert_eq!(bed.run(&changed).await.applied, 0);

    let late = [&changed[..], &[file("a/001.sql", &log("a1"))]].concat();
    let refuse = Options { policy: Policy { out_of_order: OutOfOrder::Refuse, ..Policy::default() }, ..options() };
    let refused = bed.try_run(&late, &refuse).await.expect_err("a late file");
    assert!(matches!(refused, MigrateError::Refused(_)), "{refused:?}");
    for (policy, expected) in [(OutOfOrder::Allow, 0), (OutOfOrder::Warn, 1)] {
        let mut session = bed.session().await;
        let mut warned = Vec::new();
        let tell = &mut |event: Event<'_>| {
            if let Event::Warning { key, message } = event {
                warned.push(format!("{}: {message}", key.unwrap_or_default()));
            }
        };
        let policy = Policy { out_of_order: policy, ..Policy::default() };
        let key = format!("a/001_{expected}.sql");
        let files = [&late[..], &[file(&key, &log("late"))]].concat();
        let report = run(&mut session, &files, &Options { policy, ..options() }, tell).await.expect("a run");
        session.close().await;
        assert!(report.is_complete() && warned.len() == expected, "{warned:?}");
        assert!(warned.iter().all(|told| told.contains(&key) && told.contains("'a/002.sql'")), "{warned:?}");
    }
    // Two files with one number are two files.
    let double = [&late[..], &[file("a/002_other.sql", &log("a2 too"))]].concat();
    assert_eq!(bed.run(&double).await.applied, 1);
}

async fn a_row_that_only_a_later_version_knows_is_not_passed_over(bed: &Bed) {
    let files = [file("a/1.sql", "CREATE TABLE t (a int);")];
    bed.run(&files).await;
    let admin = bed.client().await;
    admin.batch("change", "UPDATE pgdb.migrations SET outcome = 'reverted'").await.expect("changed");
    admin.close().await;
    let error = bed.try_run(&files, &options()).await.expect_err("refused").to_string();
    assert!(error.contains("outcome 'reverted'") && error.contains("a later one"), "{error}");
}

async fn repeatable_files_run_when_they_change(bed: &Bed) {
    let view = |number: u32| format!("CREATE OR REPLACE VIEW v AS SELECT {number} AS n FROM t;");
    let table = file("z/001.sql", "CREATE TABLE t ();\nINSERT INTO t DEFAULT VALUES;");
    bed.run(&[file("a/R__v.sql", &view(1)), table.clone()]).await;
    assert_eq!(bed.ask("SELECT n::text FROM v").await, "1");
    let second =
        [table, file("a/R__v.sql", &view(2)), file("a/5.sql", "-- pgdb: repeatable\nINSERT INTO t DEFAULT VALUES;")];
    assert_eq!(bed.run(&second).await.applied, 2);
    assert_eq!(bed.run(&second).await.applied, 0);
    assert_eq!(bed.ask("SELECT max(n)::text || count(*) FROM v").await, "22");
    assert_eq!(bed.ask("SELECT count(*)::text FROM pgdb.migrations WHERE key = 'a/R__v.sql'").await, "2");
}

async fn no_file_sees_what_another_one_set(bed: &Bed) {
    let files = [
        file(
            "a/1.sql",
            "CREATE ROLE other; SELECT set_config('search_path', '', false); SET lock_timeout = 1; SET ROLE other;",
        ),
        file(
            "a/2.sql",
            "CREATE TABLE two AS SELECT current_user::text AS who, current_setting('lock_timeout') AS patience;",
        ),
        file("a/3.sql", "DEALLOCATE ALL; CREATE TABLE three (); SET SESSION AUTHORIZATION other;"),
        file("a/4.sql", "-- no-transaction\nSET ROLE other; SET search_path TO nowhere;"),
        file(
            "a/5.sql",
            "CREATE TABLE five AS SELECT current_user::text AS who; CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        ),
    ];
    bed.run(&files).await;
    assert_eq!(bed.ask("SELECT who || ' ' || patience FROM public.two").await, "pgdb_admin 5s");
    assert_eq!(bed.ask("SELECT who FROM public.five").await, "pgdb_admin");
    let by = "SELECT string_agg(DISTINCT applied_by, ',') FROM pgdb.migrations";
    assert_eq!(bed.ask(by).await, "pgdb_admin");
}

async fn files_run_as_a_role_and_the_ledger_does_not(bed: &Bed) {
    let admin = bed.client().await;
    admin.batch("set up", "CREATE ROLE app; GRANT CREATE ON SCHEMA public TO app").await.expect("a role");
    let as_app = Options { role: Some("app".to_owned()), ..options() };
    let files = [
        file("a/1.sql", "CREATE TABLE owned ();"),
        file(
            "a/2.sql",
            "-- no-transaction\nCREATE TABLE stepped (a int);\nCREATE INDEX CONCURRENTLY i ON stepped (a);",
        ),
    ];
    let report = bed.try_run(&files, &as_app).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    let owners = "SELECT string_agg(relname || ' ' || relowner::regrole, ',' ORDER BY relname) FROM pg_class \
         WHERE relname IN ('owned', 'stepped', 'migrations')";
    assert_eq!(bed.ask(owners).await, "migrations pgdb_admin,owned app,stepped app");
    let sneaky = [
        &files[..],
        &[file("a/3.sql", "INSERT INTO pgdb.migrations (key, outcome, version) VALUES ('x', 'applied', '1')")],
    ]
    .concat();
    let report = bed.try_run(&sneaky, &as_app).await.expect("a run");
    assert_eq!(report.files[0].failure.as_ref().and_then(|failure| failure.sqlstate.as_deref()), Some("42501"));
    let nobody = Options { role: Some("no \"such\" role".to_owned()), ..options() };
    let report = bed.try_run(&[file("b/1.sql", "CREATE TABLE b ()")], &nobody).await.expect("a run");
    assert_eq!(report.failed, 1);
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('b')::text, 'none')").await, "none");
}

async fn postgrest_is_told_once(bed: &Bed) {
    let (client, mut connection) = {
        let mut config = tokio_postgres::Config::new();
        let pgdb_pg::Target::Socket { dir, port } = bed.server.socket() else { unreachable!() };
        config.host_path(dir).port(port).user(crate::server::ADMIN).dbname(super::DB);
        config.connect(tokio_postgres::NoTls).await.expect("a listener")
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let carried = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(note) = message {
                tell.send(format!("{} {}", note.channel(), note.payload())).expect("the test listens");
            }
        }
    });
    client.batch_execute("LISTEN pgrst").await.expect("listens");
    let files = [file("a/1.sql", "SELECT 1"), file("a/2.sql", "SELECT 2")];
    bed.run(&files).await;
    assert_eq!(told.recv().await.as_deref(), Some("pgrst reload schema"));
    // Nothing was run: nothing is told. Notifications arrive in order, so this one would come after it.
    bed.run(&files).await;
    bed.client().await.batch("tell", "NOTIFY pgrst, 'the end'").await.expect("told");
    assert_eq!(told.recv().await.as_deref(), Some("pgrst the end"));
    drop(client);
    carried.await.expect("ended");
}
