//! One session does the work with the rights of its login: what others have put into the database must not run with them.

use super::drift::pg_dump;
use super::{Bed, DB, file, on_both, options};
use crate::server::{PATIENCE, one};
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::check::check;
use pgdb_pg::migrate::ledger;
use pgdb_pg::migrate::run::{run, with_lock};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Client, PgError, connect, connect_for_scripts};

on_both!(nothing_of_an_app_runs_with_the_rights_of_the_login);
on_both!(nothing_that_is_made_meanwhile_runs_with_the_rights_of_the_login);
on_both!(a_ledger_that_somebody_else_has_made_is_not_used);
on_both!(a_ledger_of_others_can_be_read_and_not_written);
on_both!(default_privileges_do_not_give_the_ledger_away);

/// A role that may make schemas in the database, and what tells who runs its functions.
async fn mallory(bed: &Bed) -> Client {
    let admin = bed.client().await;
    let sql = format!(
        "CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE {DB} TO mallory; GRANT ALL ON SCHEMA public TO mallory"
    );
    admin.batch("set up", &sql).await.expect("a role");
    admin.close().await;
    let mallory = as_role(bed, "mallory").await;
    mallory.batch("set a trap", TELL).await.expect("set");
    mallory
}

async fn as_role(bed: &Bed, role: &str) -> Client {
    connect_for_scripts(&bed.server.socket(), role, None, DB, PATIENCE).await.expect("in")
}

const TELL: &str = "CREATE TABLE public.seen (who text); GRANT ALL ON public.seen TO public;
    CREATE FUNCTION public.tell() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN ''; END $$;";

/// What fits the arguments of ours better than PostgreSQL's own.
const TRAPS: &str = "
    CREATE FUNCTION public.times(a numeric, b integer) RETURNS numeric LANGUAGE sql AS
        $$ SELECT length(public.tell())::numeric + 1000 $$;
    CREATE OPERATOR public.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.times);
    CREATE FUNCTION public.joined(a text, b integer) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = integer, FUNCTION = public.joined);
    CREATE FUNCTION public.joined(a name, b text) RETURNS text LANGUAGE sql AS $$ SELECT public.tell() $$;
    CREATE OPERATOR public.|| (LEFTARG = name, RIGHTARG = text, FUNCTION = public.joined);
    CREATE FUNCTION public.same(a name, b text) RETURNS boolean LANGUAGE sql AS $$ SELECT public.tell() = '' $$;
    CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
    CREATE FUNCTION public.shifted(a bigint, b integer) RETURNS bigint LANGUAGE sql AS
        $$ SELECT length(public.tell())::bigint $$;
    CREATE OPERATOR public.<> (LEFTARG = oid, RIGHTARG = integer, FUNCTION = public.other);
    CREATE FUNCTION public.to_jsonb(d pg_catalog.pg_database) RETURNS jsonb LANGUAGE sql AS
        $$ SELECT jsonb_build_object('datlocprovider', 'c' || public.tell()) $$;";

async fn nothing_of_an_app_runs_with_the_rights_of_the_login(bed: &Bed) {
    let mallory = mallory(bed).await;
    let other = "CREATE FUNCTION public.other(a oid, b integer) RETURNS boolean LANGUAGE sql AS $$ SELECT public.tell() <> '' $$";
    mallory.batch("set traps", &format!("{other};{TRAPS}")).await.expect("set");
    let files = [
        file("a/1.sql", "CREATE TABLE public.t (a int);"),
        // The database's own path is the files'.
        file(
            "a/2.sql",
            "ALTER TABLE t ADD COLUMN b int; CREATE TEMP TABLE pg_locks (pid int); SET search_path = public, pg_catalog;",
        ),
        file(
            "a/3.sql",
            "-- no-transaction\nSET search_path = public, pg_catalog;\nINSERT INTO t VALUES (1);\nVACUUM t;\n\
             CREATE INDEX CONCURRENTLY ON t (a);\nBEGIN; INSERT INTO t VALUES (2); COMMIT;",
        ),
        file("a/4.sql", "COPY t (a) FROM STDIN;\n5\n\\.\nSELECT count(*) FROM t;"),
        file("a/5.sql", "SELECT 1/0"),
    ];
    assert_eq!(bed.fail(&files).await.sqlstate.as_deref(), Some("22012"));
    let mut session = bed.session().await;
    // One that waits for another looks who that is.
    let holder = bed.session().await;
    with_lock(&holder, async || {
        let hurried = pgdb_pg::migrate::run::Options { wait: std::time::Duration::ZERO, ..options() };
        run(&mut session, &files, &hurried, &mut |_| {}).await.expect_err("the other one has the lock");
        Ok(())
    })
    .await
    .expect("held");
    ledger::history(session.client(), None, 10).await.expect("read").expect("a ledger");
    for session in [session, holder] {
        session.close().await;
    }
    let admin = bed.client().await;
    let dump = pg_dump(&admin).await;
    check(&bed.login(), &files[..4], &options(), &dump, std::future::pending()).await.expect("checked");
    assert_eq!(bed.ask("SELECT count(*)::text FROM public.seen").await, "0");
    // The traps are good ones.
    let admin = as_role(bed, crate::server::ADMIN).await;
    admin.batch("step into one", "SET search_path = public, pg_catalog; SELECT 'a'::text || 1").await.expect("stepped");
    assert_eq!(one(&admin, "SELECT count(*)::text FROM public.seen").await, "1");
}

/// Whether there is code of others is asked before many files run; it can be made while they do.
async fn nothing_that_is_made_meanwhile_runs_with_the_rights_of_the_login(bed: &Bed) {
    let admin = bed.client().await;
    let sql = format!(
        "CREATE ROLE mallory LOGIN; GRANT ALL ON SCHEMA public TO mallory; \
         ALTER DATABASE {DB} SET search_path = public, pg_catalog"
    );
    admin.batch("set up", &sql).await.expect("set up");
    let change = |number: u32, text: &str| file(&format!("b/{number}.sql"), text);
    let files = [
        file("a/1.sql", "CREATE TABLE busy (a int)"),
        change(1, "UPDATE busy SET a = 1"),
        change(2, "ALTER TABLE busy ADD COLUMN b int"),
        change(3, "ALTER TABLE busy ADD COLUMN c int"),
        change(4, "CREATE TABLE t (a int); CREATE INDEX ON busy (a)"),
        change(5, "DELETE FROM busy"),
        change(6, "ALTER TABLE busy ADD COLUMN d int"),
    ];
    bed.run(&files[..1]).await;
    admin.batch("hold", "BEGIN; LOCK TABLE busy IN ACCESS SHARE MODE").await.expect("held");
    let running = bed.run(&files);
    let making = async {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'busy'::regclass";
        while bed.ask(waiting).await == "0" {
            tokio::task::yield_now().await;
        }
        let mallory = as_role(bed, "mallory").await;
        let meanwhile = "SET search_path = pg_catalog; CREATE FUNCTION public.other(a oid, b integer) RETURNS boolean \
             LANGUAGE sql AS $$ SELECT public.tell() <> '' $$;
             CREATE FUNCTION public.alike(a text, b text) RETURNS boolean LANGUAGE sql AS $$ SELECT public.tell() = '' $$;
             CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.alike);
             CREATE OPERATOR public.>= (LEFTARG = oid, RIGHTARG = integer, FUNCTION = public.other);
             CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.tell() = '');
             CREATE DOMAIN public.jsonb AS pg_catalog.jsonb CHECK (public.tell() = '')";
        mallory
            .batch("set traps", &format!("SET search_path = pg_catalog; {TELL} {meanwhile}; {TRAPS}"))
            .await
            .expect("set");
        admin.batch("let go", "COMMIT").await.expect("let go");
    };
    let (report, ()) = tokio::join!(running, making);
    assert_eq!(report.applied, 6);
    assert_eq!(bed.ask("SELECT count(*)::text FROM public.seen").await, "0");
}

async fn a_ledger_that_somebody_else_has_made_is_not_used(bed: &Bed) {
    let mallory = mallory(bed).await;
    let table = "CREATE TABLE pgdb.migrations (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, \
         sha256 text, outcome text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), \
         took_ms bigint NOT NULL DEFAULT 0, version text NOT NULL, applied_by text NOT NULL DEFAULT session_user, \
         statements_done bigint, attempts bigint NOT NULL DEFAULT 1, error text, locks jsonb NOT NULL DEFAULT '[]', \
         doing jsonb, progress jsonb);";
    let trigger = "CREATE FUNCTION public.run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.tell(); \
         RETURN NEW; END $$; CREATE TRIGGER t BEFORE INSERT ON pgdb.migrations FOR EACH ROW EXECUTE FUNCTION public.run();";
    let fold = "CREATE OR REPLACE FUNCTION public.fold() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM public.tell(); RETURN 1; END $$;";
    let view = "CREATE VIEW pgdb.migrations AS SELECT 1::bigint AS id, public.tell() AS key";
    let cases = [
        ("".to_owned(), "schema pgdb belongs to mallory", false),
        (view.to_owned(), "is no plain table", true),
        (table.to_owned(), "belongs to mallory, who is not trusted", false),
        (format!("{table}{trigger}"), "has triggers", false),
        (format!("{table}ALTER TABLE pgdb.migrations ENABLE ROW LEVEL SECURITY"), "row level security", true),
        (
            format!("{table}CREATE RULE r AS ON INSERT TO pgdb.migrations DO ALSO SELECT public.tell()"),
            "has rules",
            true,
        ),
        (format!("{table}ALTER TABLE pgdb.migrations ALTER error SET DEFAULT public.tell()"), "other defaults", false),
        (format!("{table}CREATE TABLE public.child () INHERITS (pgdb.migrations)"), "is inherited", true),
        (format!("{table}ALTER TABLE pgdb.migrations ADD CHECK (public.tell() = '')"), "constraints, indexes or", true),
        // A plan works out what it can, also for who only reads.
        (
            format!("{table}{fold}CREATE INDEX ON pgdb.migrations ((public.fold() + id))"),
            "constraints, indexes or",
            true,
        ),
        (
            format!("{table}{fold}CREATE STATISTICS public.s ON (public.fold() + id), key FROM pgdb.migrations"),
            "indexes or statistics of others",
            true,
        ),
        (
            format!(
                "CREATE DOMAIN public.word AS text CHECK (public.tell() = '');{table}ALTER TABLE pgdb.migrations ALTER key TYPE public.word"
            ),
            "other types",
            true,
        ),
    ];
    let files = [file("a/1.sql", "CREATE TABLE public.t ()")];
    for (made, why, also_unread) in cases {
        mallory.batch("set a trap", &format!("CREATE SCHEMA pgdb; {made}")).await.expect(why);
        let grant = "GRANT USAGE ON SCHEMA pgdb TO public; GRANT ALL ON ALL TABLES IN SCHEMA pgdb TO public";
        mallory.batch("let others in", grant).await.expect("let in");
        let error = bed.try_run(&files, &options()).await.expect_err(why).to_string();
        assert!(error.contains(why) && error.contains("mallory") && error.contains("; "), "{why}: {error}");
        let session = bed.session().await;
        let read = ledger::read(session.client()).await;
        match also_unread {
            true => assert!(matches!(&read, Err(PgError::UnfitLedger { what, .. }) if what.contains(why)), "{read:?}"),
            false => assert!(read.is_ok(), "{why}: {read:?}"),
        }
        with_lock(&session, async || Ok(())).await.expect_err(why);
        session.close().await;
        mallory.batch("begin anew", "DROP SCHEMA pgdb CASCADE; DROP FUNCTION IF EXISTS public.run(); DROP TABLE IF EXISTS public.child; DROP DOMAIN IF EXISTS public.word").await.expect("anew");
    }
    assert_eq!(bed.ask("SELECT count(*)::text FROM public.seen WHERE who <> 'mallory'").await, "0");
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('public.t')::text, 'none')").await, "none");
    bed.run(&files).await;
}

async fn a_ledger_of_others_can_be_read_and_not_written(bed: &Bed) {
    let admin = bed.client().await;
    admin.batch("set up", "CREATE ROLE app LOGIN; GRANT ALL ON SCHEMA public TO app").await.expect("a role");
    let files = [file("a/1.sql", "CREATE TABLE t ()"), file("a/2.sql", "CREATE TABLE u ()")];
    bed.run(&files[..1]).await;
    admin
        .batch("show", "GRANT USAGE ON SCHEMA pgdb TO app; GRANT SELECT ON pgdb.migrations TO app")
        .await
        .expect("shown");
    let app = Login { user: "app".to_owned(), ..bed.login() };
    let try_run = async |files: &[File]| {
        let mut session = Session::open(&app).await.expect("in");
        let report = run(&mut session, files, &options(), &mut |_| {}).await;
        session.close().await;
        report
    };
    let done = try_run(&files[..1]).await.expect("nothing to do");
    assert_eq!((done.up_to_date_before, done.applied), (1, 0));
    let error = try_run(&files).await.expect_err("no right").to_string();
    assert!(error.contains("belongs to") && error.contains("pgdb migrate rollout --preview NUMBER"), "{error}");
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('public.u')::text, 'none')").await, "none");
    let client = connect(&bed.server.socket(), "app", None, DB, PATIENCE).await.expect("in");
    assert_eq!(ledger::history(&client, None, 10).await.expect("read").expect("a ledger").len(), 1);
    // The database's owner is trusted, and whoever may act as us.
    admin.batch("give", &format!("ALTER SCHEMA pgdb OWNER TO app; ALTER TABLE pgdb.migrations OWNER TO app; ALTER DATABASE {DB} OWNER TO app")).await.expect("given");
    bed.run(&files).await;
}

async fn default_privileges_do_not_give_the_ledger_away(bed: &Bed) {
    let admin = bed.client().await;
    let sql = "CREATE ROLE \"some one\"; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, \"some one\"; \
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO \"some one\"";
    admin.batch("set up", sql).await.expect("set up");
    bed.run(&[file("a/1.sql", "CREATE TABLE t ()")]).await;
    let given = "SELECT count(*)::text FROM (SELECT relacl AS acl, relowner AS owner FROM pg_class \
           WHERE relnamespace = 'pgdb'::regnamespace UNION ALL SELECT nspacl, nspowner FROM pg_namespace WHERE nspname = 'pgdb') o, \
         aclexplode(o.acl) a WHERE a.grantee <> o.owner";
    assert_eq!(one(&admin, given).await, "0");
    // What somebody gives on purpose stays.
    admin.batch("show", "GRANT SELECT ON pgdb.migrations TO \"some one\"").await.expect("given");
    bed.run(&[file("a/1.sql", "CREATE TABLE t ()"), file("a/2.sql", "SELECT 1")]).await;
    assert_eq!(one(&admin, given).await, "1");
}
