//! Who may do what in which database, tried by connecting as each role, on every PostgreSQL from 15 to 18.

use super::bed::Bed;
use pgdb_testkit::sql;

/// What a role is refused, as SQLSTATE.
async fn refusal(url: &str, statement: &str) -> String {
    let outcome = match sql::login(url).await {
        Ok(session) => session.run(statement).await,
        Err(error) => Err(error),
    };
    let error = outcome.expect_err("it is refused");
    error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
}

async fn check(major: u16) {
    let bed = Bed::start_on(major, &[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    let (cold, warm) = (bed.ensure(1).await, {
        bed.wait_pool(&[2]).await;
        bed.ensure(2).await
    });
    // Of everything that has an owner nothing is left to anybody else, extensions included.
    for (db, owner) in [
        ("medusa_pr_1", "medusa_pr_app_1"),
        ("medusa_pr_2", "medusa_pr_app_2"),
        ("template_medusa", "template_medusa_owner"),
    ] {
        let strangers = format!(
            "SELECT coalesce(string_agg(pg_describe_object(classid, objid, 0) || ' of ' || pg_get_userbyid(refobjid), ', '), '') \
             FROM pg_shdepend WHERE deptype = 'o' AND refobjid <> '{owner}'::regrole \
             AND dbid = (SELECT oid FROM pg_database WHERE datname = '{db}')"
        );
        let place = if db == "template_medusa" { "ALLOW_CONNECTIONS true" } else { "CONNECTION LIMIT -1" };
        bed.admin(&format!("ALTER DATABASE {db} {place}")).await;
        assert_eq!(sql::run(&bed.admin_url(db), &strangers).await, "", "{db}");
    }
    bed.admin("ALTER DATABASE template_medusa ALLOW_CONNECTIONS false").await;
    for ensured in [&cold, &warm] {
        sql::run(&bed.app_url(ensured), "DROP EXTENSION citext; SELECT lo_unlink(4711)").await;
        sql::run(&bed.app_url(ensured), "DROP PUBLICATION told; DROP OPERATOR shop.=== (integer, integer)").await;
    }
    let text = |of: &serde_json::Value, field: &str| of[field].as_str().expect(field).to_owned();
    for (own, other) in [(&cold, &warm), (&warm, &cold)] {
        let url = bed.app_url(own);
        // Owns and can change all of it.
        sql::run(
            &url,
            "ALTER TABLE shop.orders ADD COLUMN c int; DROP VIEW shop.recent; REFRESH MATERIALIZED VIEW shop.counted",
        )
        .await;
        sql::run(
            &url,
            "CREATE OR REPLACE FUNCTION shop.twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT n + n'",
        )
        .await;
        sql::run(&url, "ALTER TYPE shop.mood ADD VALUE 'odd'; ALTER SEQUENCE public.numbers RESTART; ALTER SCHEMA shop RENAME TO shop2").await;
        sql::run(
            &url,
            "CREATE TABLE public.later (id serial PRIMARY KEY); CREATE SCHEMA own; CREATE TABLE own.t (id int)",
        )
        .await;
        let strangers = "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relowner <> current_user::regrole";
        assert_eq!(sql::run(&url, strangers).await, "0");
        // But nothing of another's, nor the template.
        let (user, password) = (text(own, "app_user"), text(own, "app_password"));
        assert_eq!(refusal(&bed.url(&user, &password, &text(other, "db_name")), "SELECT 1").await, "42501");
        assert!(
            ["42501", "55000"]
                .contains(&refusal(&bed.url(&user, &password, "template_medusa"), "SELECT 1").await.as_str())
        );
        assert_eq!(refusal(&url, "CREATE DATABASE stolen TEMPLATE template_medusa").await, "42501");
        assert_eq!(refusal(&url, "SET ROLE zane_operator").await, "42501");
        // The dev role reads and writes, also what the app has made since.
        let dev = bed.url("medusa_dev", "dev", &text(own, "db_name"));
        for statement in [
            "INSERT INTO shop2.orders (note) VALUES ('dev'); SELECT count(*) FROM shop2.counted",
            "INSERT INTO public.later DEFAULT VALUES",
            "INSERT INTO own.t VALUES (1); DELETE FROM own.t",
            "SELECT shop2.twice(nextval('public.numbers')::int)",
        ] {
            sql::run(&dev, statement).await;
        }
        assert_eq!(refusal(&dev, "DROP TABLE own.t").await, "42501");
    }
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(datdba)::text, ' ') FROM pg_database WHERE datname ~ '^(medusa_pr_|template_medusa)'";
    assert_eq!(bed.admin(owners).await, "zane_operator");
    let template =
        "SELECT datallowconn::text || datistemplate::text FROM pg_database WHERE datname = 'template_medusa'";
    assert_eq!(bed.admin(template).await, "falsefalse");
    for number in [1, 2] {
        assert_eq!(bed.delete(number).await["role_deleted"], true);
    }
}

#[tokio::test]
async fn previews_are_isolated_on_15() {
    check(15).await;
}

#[tokio::test]
async fn previews_are_isolated_on_16() {
    check(16).await;
}

#[tokio::test]
async fn previews_are_isolated_on_17() {
    check(17).await;
}

#[tokio::test]
async fn previews_are_isolated_on_18() {
    check(18).await;
}

/// What an app could put into its database to have it run with the rights of whoever looks in.
const TRAPS: &str = "
    CREATE TABLE public.caught (who text);
    GRANT ALL ON public.caught TO PUBLIC;
    CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO public.caught VALUES (current_user); RETURN 'public'; END$$;
    CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT public.trap()';
    CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE sql AS 'SELECT public.trap()';
    CREATE FUNCTION public.pg_get_userbyid(oid) RETURNS name LANGUAGE sql AS 'SELECT public.trap()::name';
    CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() IS NOT NULL';
    CREATE OPERATOR public.= (leftarg = name, rightarg = text, function = public.same);
    CREATE FUNCTION public.same(oid, integer) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() IS NOT NULL';
    CREATE OPERATOR public.>= (leftarg = oid, rightarg = integer, function = public.same);
";

#[tokio::test]
async fn nothing_of_an_app_runs_with_our_rights() {
    let bed = Bed::start().await;
    let ensured = bed.ensure(1).await;
    sql::run(&bed.app_url(&ensured), TRAPS).await;
    // A password of the app's own makes the next ensure look into the database and mend it.
    sql::run(&bed.app_url(&ensured), "ALTER ROLE medusa_pr_app_1 PASSWORD 'mine'").await;
    let mended = bed.ensure(1).await;
    let caught = sql::run(&bed.app_url(&mended), "SELECT coalesce(string_agg(who, ' '), '') FROM public.caught").await;
    assert_eq!(caught, "");
    bed.delete(1).await;
}

#[tokio::test]
async fn what_the_pool_hands_out_looks_like_what_is_cloned() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.admin("ALTER DATABASE template_medusa SET work_mem TO '7MB'").await;
    bed.admin("ALTER DATABASE template_medusa SET search_path TO shop, 'odd, name', public").await;
    bed.admin("ALTER DATABASE template_medusa SET my.own TO 'it''s \"mine\"; DROP TABLE x'").await;
    bed.admin("CREATE ROLE reporting; GRANT CONNECT ON DATABASE template_medusa TO reporting WITH GRANT OPTION").await;
    bed.ensure(1).await;
    bed.wait_pool(&[2]).await;
    bed.ensure(2).await;
    let shared = |number: u64| {
        let sql = format!(
            "SELECT (SELECT concat_ws('|', pg_get_userbyid(datdba), datallowconn, datistemplate, datconnlimit, datacl,
                     (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0))
                     FROM pg_database d WHERE datname = 'medusa_pr_{number}') ||
                    (SELECT concat_ws('|', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
                     rolbypassrls, rolconnlimit, rolconfig) FROM pg_roles WHERE rolname = 'medusa_pr_app_{number}')"
        );
        let bed = &bed;
        async move { bed.admin(&sql).await.replace(&format!("app_{number}"), "app_N") }
    };
    let (cold, warm) = (shared(1).await, shared(2).await);
    assert_eq!(cold, warm);
    assert!(cold.contains("work_mem=7MB"), "{cold}");
    let settings = |db: &str| {
        let sql = format!(
            "SELECT array_to_string(setconfig, '~') FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = \
             (SELECT oid FROM pg_database WHERE datname = '{db}')"
        );
        let bed = &bed;
        async move { bed.admin(&sql).await }
    };
    let template = settings("template_medusa").await;
    // Of those that only a superuser may make there is a warning instead.
    let (may, mut own): (Vec<&str>, Vec<&str>) =
        template.split('~').partition(|setting| !setting.starts_with("my.own="));
    assert_eq!((settings("medusa_pr_1").await, own.pop().is_some()), (may.join("~"), true));
    assert!(bed.daemon.log().contains("a setting of the template is left out"));
    let may = "SELECT has_database_privilege('reporting', 'medusa_pr_1', 'CONNECT WITH GRANT OPTION')";
    assert!(bed.admin(may).await.starts_with('t'), "rights on the database are the template's");
    let inside = |number: u64| {
        let url = bed.admin_url(&format!("medusa_pr_{number}"));
        async move {
            let everything = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
                SELECT concat_ws(' ', relkind, relnamespace::regnamespace, relname, pg_get_userbyid(relowner), relacl) AS line
                FROM pg_class WHERE oid >= 16384
                UNION ALL SELECT concat_ws(' ', 'schema', nspname, pg_get_userbyid(nspowner), nspacl) FROM pg_namespace WHERE nspname !~ '^pg_t'
                UNION ALL SELECT concat_ws(' ', 'default', pg_get_userbyid(defaclrole), defaclobjtype, defaclacl) FROM pg_default_acl
                UNION ALL SELECT concat_ws(' ', 'routine', proname, pg_get_userbyid(proowner), proacl) FROM pg_proc WHERE oid >= 16384) all_lines";
            sql::run(&url, everything).await.replace(&format!("app_{number}"), "app_N")
        }
    };
    assert_eq!(inside(1).await, inside(2).await);
}

#[tokio::test]
async fn no_password_is_in_the_servers_log() {
    let bed = Bed::start_with(&[("PGDB_PREVIEW_POOL_MIN", "1"), ("PGDB_PREVIEW_POOL_MAX", "1")]).await;
    bed.admin("ALTER SYSTEM SET log_statement = 'all'").await;
    bed.admin("ALTER SYSTEM SET log_min_error_statement = 'debug1'").await;
    bed.admin("SELECT pg_reload_conf()").await;
    let cold = bed.ensure(1).await;
    bed.wait_pool(&[2]).await;
    bed.ensure(2).await;
    let far = bed.ensure(77).await;
    bed.admin("ALTER ROLE medusa_pr_app_1 PASSWORD 'other'").await;
    bed.ensure(1).await;
    let log = bed.server_log().await;
    assert!(log.contains("CREATE DATABASE"), "statements are logged");
    for ensured in [&cold, &far] {
        let password = ensured["app_password"].as_str().expect("a password");
        assert!(!log.contains(password), "a password is in the server's log");
    }
}
