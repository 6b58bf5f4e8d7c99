//! Files that run in a session of their own, and whatever they do to get at the ledger.

use super::{Bed, DB, file, on_both, options, word};
use crate::server::{PATIENCE, one};
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::RunReport;
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Client, connect, connect_for_scripts};

on_both!(a_file_does_everything_as_its_own_role);
on_both!(a_ledger_that_the_files_role_has_made_is_not_looked_at);
on_both!(a_role_that_could_reach_the_ledger_is_refused);
on_both!(one_session_and_two_come_to_the_same);
on_both!(what_fails_at_its_commit_is_a_failure);

/// The role that keeps the ledger, as the operator of previews is: it may act as the files' role, and not the other way.
pub(super) const OPERATOR: &str = "operator";
/// The role that files run as. It owns `public` and may make schemas, as in a preview.
pub(super) const APP: &str = "app";

pub(super) async fn roles(bed: &Bed) -> Client {
    let admin = bed.client().await;
    let sql = format!(
        "CREATE ROLE {OPERATOR} LOGIN CREATEDB CREATEROLE; CREATE ROLE {APP} LOGIN ROLE {OPERATOR}; \
         GRANT CREATE ON DATABASE {DB} TO {APP}, {OPERATOR}; ALTER SCHEMA public OWNER TO {APP}"
    );
    admin.batch("set up", &sql).await.expect("roles");
    admin
}

pub(super) fn operator(bed: &Bed) -> Login {
    Login { user: OPERATOR.to_owned(), ..bed.login() }
}

pub(super) async fn apart(bed: &Bed) -> Session {
    apart_as(bed, APP).await
}

/// Files as this role, the ledger kept by the operator.
async fn apart_as(bed: &Bed, user: &str) -> Session {
    let Login { target, user: keeper, db, timeout, .. } = operator(bed);
    let keeper = connect(&target, &keeper, None, &db, timeout).await.expect("the ledger's session");
    let files = Login { user: user.to_owned(), ..bed.login() };
    Session::open_apart(&files, keeper).await.expect("two sessions")
}

pub(super) async fn try_run(bed: &Bed, files: &[File], options: &Options) -> Result<RunReport, MigrateError> {
    let mut session = apart(bed).await;
    let report = run(&mut session, files, options, &mut |_| {}).await;
    session.close().await;
    report
}

async fn as_app(bed: &Bed) -> Client {
    connect_for_scripts(&bed.server.socket(), APP, None, DB, PATIENCE).await.expect("the app gets in")
}

/// Something of every kind that our statements use, in places where a careless session would find it first. Each tells
/// who has run it.
const TRAPS: &str = "CREATE TABLE public.seen (who text);
    GRANT ALL ON public.seen TO public;
    CREATE FUNCTION public.tell() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN ''; END $$;
    CREATE FUNCTION public.pg_xact_status(x xid8) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE FUNCTION public.pg_current_xact_id() RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE FUNCTION public.pg_try_advisory_lock(n bigint) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE FUNCTION public.pg_advisory_unlock(n bigint) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE FUNCTION public.clock_timestamp() RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE FUNCTION public.jsonb_build_object(a text, b text, c text, d text) RETURNS text LANGUAGE sql AS
        $$ SELECT public.tell() $$;
    CREATE FUNCTION public.same(a name, b text) RETURNS boolean LANGUAGE sql AS $$ SELECT public.tell() = '' $$;
    CREATE FUNCTION public.joined(a name, b text) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
    CREATE OPERATOR public.|| (LEFTARG = name, RIGHTARG = text, FUNCTION = public.joined);
    CREATE VIEW public.pg_locks AS SELECT public.tell() AS mode;
    CREATE TEMP VIEW pg_class AS SELECT public.tell() AS relname;
    ALTER ROLE app SET search_path = public, pg_catalog;
    SET search_path = public, pg_catalog;";

async fn a_file_does_everything_as_its_own_role(bed: &Bed) {
    let admin = roles(bed).await;
    let mut files = vec![
        file("a/1.sql", TRAPS),
        file("a/2.sql", "RESET ROLE; SET SESSION AUTHORIZATION DEFAULT; CREATE TABLE public.mine (a int);"),
        file("a/3.sql", "SELECT pg_catalog.pg_advisory_unlock_all(); ALTER TABLE public.mine ADD COLUMN b int;"),
        file(
            "a/4.sql",
            "-- no-transaction\nCREATE TABLE public.also_mine ();\nBEGIN; RESET ROLE; ANALYZE public.mine; COMMIT;",
        ),
    ];
    let report = try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete() && report.applied == 4, "{report:#?}");
    let again = try_run(bed, &files, &options()).await.expect("a second run");
    assert!(again.is_complete() && again.applied == 0, "{again:#?}");
    assert_eq!(one(&admin, "SELECT count(*)::text FROM public.seen WHERE who <> 'app'").await, "0");
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class \
         WHERE relname IN ('mine', 'also_mine')";
    assert_eq!(one(&admin, owners).await, "app");
    let ledger = "SELECT string_agg(key || ' ' || outcome || ' ' || applied_by, ', ' ORDER BY id) FROM pgdb.migrations \
         WHERE doing IS NULL";
    assert_eq!(
        one(&admin, ledger).await,
        "a/1.sql applied app, a/2.sql applied app, a/3.sql applied app, a/4.sql applied app"
    );
    let locked: Vec<String> =
        report.files[2].locks.iter().map(|lock| format!("{} {}", lock.relation, lock.mode)).collect();
    assert_eq!(locked, ["public.mine AccessExclusiveLock"]);

    for (number, attack) in [
        "UPDATE pgdb.migrations SET outcome = 'forgotten'",
        "INSERT INTO pgdb.migrations (key, outcome, version) VALUES ('a/9.sql', 'applied', '')",
        "RESET ROLE; DROP TABLE pgdb.migrations",
        "SET ROLE operator",
        "SET SESSION AUTHORIZATION operator",
        "CREATE TRIGGER t BEFORE INSERT ON pgdb.migrations FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE TABLE public.child () INHERITS (pgdb.migrations)",
        "LOCK TABLE pgdb.migrations",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'operator'",
    ]
    .into_iter()
    .enumerate()
    {
        files.truncate(4);
        // What one of them has done without a transaction stays; so each has a name of its own.
        let key = format!("a/5_{number}.sql");
        files.push(file(&key, attack));
        let report = try_run(bed, &files, &options()).await.expect("a run");
        let failure = report.files[0].failure.as_ref().expect(attack);
        assert_eq!(failure.sqlstate.as_deref(), Some("42501"), "{attack}: {failure}");
        files[4] = file(&key, &format!("-- no-transaction\n{attack}"));
        let report = try_run(bed, &files, &options()).await.expect("a run");
        assert_eq!(report.failed, 1, "{attack}");
    }
    assert_eq!(one(&admin, "SELECT count(*)::text FROM public.seen WHERE who <> 'app'").await, "0");
    assert_eq!(
        one(&admin, "SELECT string_agg(key, ' ' ORDER BY id) FROM pgdb.migrations WHERE outcome = 'applied'").await,
        "a/1.sql a/2.sql a/3.sql a/4.sql"
    );
}

async fn a_ledger_that_the_files_role_has_made_is_not_looked_at(bed: &Bed) {
    let admin = roles(bed).await;
    let app = as_app(bed).await;
    let trap = "CREATE TABLE public.seen (who text); \
         CREATE FUNCTION public.tell() RETURNS text LANGUAGE plpgsql AS \
           $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN ''; END $$; \
         CREATE SCHEMA pgdb; GRANT ALL ON SCHEMA pgdb TO public; \
         CREATE VIEW pgdb.migrations AS SELECT 1::bigint AS id, public.tell() AS key; \
         GRANT ALL ON ALL TABLES IN SCHEMA pgdb, public TO public";
    app.batch("set a trap", trap).await.expect("set");
    let files = [file("a/1.sql", "CREATE TABLE public.t ()")];
    let refused = async |why: &str| match try_run(bed, &files, &options()).await.expect_err("no wall") {
        MigrateError::NoWall { role, why: said } => assert!(role == APP && said.contains(why), "{said}"),
        other => panic!("{other}"),
    };
    refused("the schema pgdb belongs to app").await;
    // A schema without a ledger: the operator could make one there, which would not stay what it is.
    app.batch("take the view away", "DROP VIEW pgdb.migrations").await.expect("gone");
    refused("the schema pgdb belongs to app").await;
    app.batch("take the schema away", "DROP SCHEMA pgdb CASCADE").await.expect("gone");
    let report = try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    // What was once the app's may still hold its triggers.
    admin
        .batch("give away", "GRANT ALL ON SCHEMA pgdb TO app; GRANT ALL ON pgdb.migrations TO app")
        .await
        .expect("given");
    refused("may write into pgdb.migrations").await;
    let trigger = "CREATE FUNCTION public.run() RETURNS trigger LANGUAGE plpgsql AS \
           $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$; \
         CREATE TRIGGER run BEFORE INSERT ON pgdb.migrations FOR EACH ROW EXECUTE FUNCTION public.run()";
    app.batch("set a trap", trigger).await.expect("set");
    admin.batch("take back", "REVOKE ALL ON pgdb.migrations FROM app").await.expect("taken");
    refused("has triggers or rules").await;
    assert_eq!(one(&admin, "SELECT count(*)::text FROM public.seen").await, "0");
}

async fn a_role_that_could_reach_the_ledger_is_refused(bed: &Bed) {
    let admin = roles(bed).await;
    let files = [file("a/1.sql", "CREATE TABLE public.t ()")];
    for (give, take, why) in [
        ("ALTER ROLE app SUPERUSER", "ALTER ROLE app NOSUPERUSER", "it is a superuser"),
        ("GRANT pg_write_all_data TO app", "REVOKE pg_write_all_data FROM app", "a member of pg_write_all_data"),
        (
            "REVOKE app FROM operator; GRANT operator TO app",
            "REVOKE operator FROM app; GRANT app TO operator",
            "it may act as operator",
        ),
    ] {
        admin.batch("give", give).await.expect(give);
        let error = try_run(bed, &files, &options()).await.expect_err(why);
        assert!(matches!(&error, MigrateError::NoWall { .. }) && error.to_string().contains(why), "{error}");
        admin.batch("take", take).await.expect(take);
    }
    let mut same = apart_as(bed, OPERATOR).await;
    let error = run(&mut same, &files, &options(), &mut |_| {}).await.expect_err("no wall");
    assert!(error.to_string().contains("it is the role that keeps the ledger"), "{error}");
    same.close().await;
    let report = try_run(bed, &files, &options()).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
}

async fn one_session_and_two_come_to_the_same(bed: &Bed) {
    let admin = roles(bed).await;
    admin.batch("make another", "CREATE DATABASE other OWNER app; ").await.expect("another database");
    let files = [
        file("a/01.sql", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"),
        file("a/02.sql", "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t SELECT count(*) FROM t; COMMIT;"),
        file("a/03.sql", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ALTER TABLE t ADD COLUMN b int; -- end"),
        file("a/04.sql", "COPY t (a) FROM STDIN;\n5\n6\n\\.\nSELECT * FROM t;"),
        file("a/05.sql", ""),
        file("a/06.sql", "SELECT 1; PREPARE p AS SELECT 1; DEALLOCATE p; SAVEPOINT s; ROLLBACK TO s; LOCK TABLE t;"),
        file(
            "a/07.sql",
            "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);\nBEGIN; INSERT INTO t VALUES (7); COMMIT;\nBEGIN; INSERT INTO t VALUES (8); ROLLBACK;\nVACUUM t;\nDO $$ BEGIN INSERT INTO t VALUES (9); COMMIT; END $$;\nBEGIN READ ONLY; COMMIT;",
        ),
        file("a/08.sql", "INSERT INTO t VALUES (10); SELECT 1/0;"),
        file("a/09.sql", "-- no-transaction\nINSERT INTO t VALUES (11);\nINSERT INTO t SELECT 1/0;"),
        file("a/10.sql", "-- no-transaction\nBEGIN; INSERT INTO t VALUES (12);"),
        file("a/11.sql", "COMMIT; INSERT INTO t VALUES (13);"),
        file("a/12.sql", "INSERT INTO t VALUES (14)"),
    ];
    let going_on = Options { keep_going: true, ..options() };
    let two = try_run(bed, &files, &going_on).await.expect("a run of two sessions");
    let mut alone = Session::open(&Login { user: APP.to_owned(), db: "other".to_owned(), ..bed.login() })
        .await
        .expect("one session");
    let one_session = run(&mut alone, &files, &going_on, &mut |_| {}).await.expect("a run of one");
    alone.close().await;
    let told = |report: &RunReport| -> Vec<String> {
        let file = |file: &pgdb_pg::migrate::report::FileReport| {
            let failure = file.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            // What is seen from outside is a matter of luck.
            let asked = file.locks.iter().filter(|lock| !lock.sampled);
            let locks: Vec<String> = asked.map(|lock| format!("{} {}", lock.relation, lock.mode)).collect();
            format!("{} {} {locks:?} {failure}", file.key, file.applied)
        };
        report.files.iter().map(file).collect()
    };
    assert_eq!(told(&two), told(&one_session));
    let other = bed.server.admin("other").await;
    for question in [
        "SELECT string_agg(a::text, ' ' ORDER BY a) FROM t",
        "SELECT string_agg(concat_ws(' ', key, outcome, statements_done, error, attempts, doing), ', ' ORDER BY key) \
         FROM pgdb.migrations",
    ] {
        assert_eq!(one(&admin, question).await, one(&other, question).await);
    }
    assert_eq!(one(&admin, "SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").await, "1 1 5 6 7 9 11 14");
    other.close().await;
}

async fn what_fails_at_its_commit_is_a_failure(bed: &Bed) {
    let admin = roles(bed).await;
    // What waits for the commit finds names where the file's session looks for them.
    let files = [
        file(
            "a/1.sql",
            "CREATE TABLE t (a int); CREATE TABLE log (a int);
             CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NEW.a < 0 THEN RAISE 'less than nothing'; END IF; INSERT INTO log VALUES (NEW.a); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION late();",
        ),
        file("a/2.sql", "INSERT INTO t VALUES (1);"),
        file("a/3.sql", "INSERT INTO t VALUES (-1);"),
    ];
    let steps = |text: &str| [&files[..2], &[file("a/3.sql", &format!("-- no-transaction\n{text}"))]].concat();
    let variants =
        [files.to_vec(), steps("INSERT INTO t VALUES (-1);"), steps("BEGIN; INSERT INTO t VALUES (-1); COMMIT;")];
    for variant in &variants {
        let report = try_run(bed, variant, &options()).await.expect("a run");
        let failure = report.files.last().and_then(|file| file.failure.as_ref()).expect("a failure");
        assert_eq!((failure.message.as_str(), report.failed), ("less than nothing", 1), "{failure}");
    }
    assert_eq!(one(&admin, "SELECT string_agg(a::text, ' ') FROM log").await, "1");
    assert_eq!(one(&admin, "SELECT count(*)::text FROM pgdb.migrations WHERE outcome = 'applied'").await, "2");
    // The same in one session.
    admin.batch("begin anew", "DROP SCHEMA pgdb, public CASCADE; CREATE SCHEMA public").await.expect("begun anew");
    for variant in &variants {
        let failure = bed.fail(variant).await;
        assert_eq!(failure.message, "less than nothing", "{failure}");
    }
    assert_eq!(one(&admin, "SELECT string_agg(a::text, ' ') FROM log").await, "1");
}

/// What a run tells apart from files.
pub(super) async fn heard(bed: &Bed, files: &[File]) -> (RunReport, Vec<String>) {
    let mut words = Vec::new();
    let mut session = apart(bed).await;
    let report = run(&mut session, files, &options(), &mut |event| words.extend(word(&event))).await.expect("a run");
    session.close().await;
    (report, words)
}
