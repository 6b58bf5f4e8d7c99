//! What a drift check must leave alone, and how `pg_dump` logs in.

use super::drift::{checked, files, login, made, pg_dump, scratches};
use super::{Bed, on_both};
use crate::server::{ADMIN, Server, one};
use crate::tls::{certificate, encrypted_server};
use pgdb_pg::migrate::check::check;
use pgdb_pg::migrate::dump::DumpError;
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::scratch::Scratch;
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{TlsMode, provision, scram};
use secrecy::SecretString;

async fn apply(login: &Login, texts: &[(&str, &str)]) {
    let mut session = Session::open(login).await.expect("in");
    let report = run(&mut session, &files(texts), &Options::new("test"), &mut |_| {}).await.expect("run");
    assert!(report.is_complete(), "{report:#?}");
    session.close().await;
}

on_both!(nothing_outside_the_new_database_is_changed);
async fn nothing_outside_the_new_database_is_changed(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    let count = tempfile::NamedTempFile::new().expect("a file");
    crate::server::give_away(count.path());
    let copy = format!("COPY (SELECT 'ran') TO PROGRAM 'cat >> {}';\nCREATE TABLE b ();", count.path().display());
    let texts = [
        ("a/1.sql", "CREATE ROLE app;\nALTER ROLE app CREATEDB;\nGRANT pg_monitor TO app;\nCREATE TABLE a ();\n"),
        ("a/2.sql", "-- pgdb: no-transaction\nALTER SYSTEM SET work_mem = '3MB';\nSELECT pg_reload_conf();\n"),
        ("a/3.sql", copy.as_str()),
        ("a/4.sql", "DO $$ BEGIN EXECUTE 'ALTER ROLE app CREATEROLE'; END $$;\nGRANT SELECT ON a TO app;\n"),
        ("a/5.sql", "ALTER DATABASE postgres SET work_mem = '4MB';\n"),
    ];
    apply(&login(server), &texts).await;
    // What has been changed since stays as it is.
    let since = "ALTER ROLE app NOCREATEDB NOCREATEROLE; REVOKE pg_monitor FROM app; ALTER DATABASE postgres RESET ALL";
    admin.batch("change", since).await.expect("changed");
    admin.batch("change", "ALTER SYSTEM RESET work_mem").await.expect("changed");
    let state = "SELECT concat(rolcreatedb, rolcreaterole, pg_has_role('app', 'pg_monitor', 'MEMBER'), \
                 (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_file_settings WHERE name = 'work_mem')) \
                 FROM pg_roles WHERE rolname = 'app'";
    let before = one(&admin, state).await;
    let report = checked(server, &files(&texts)).await.expect("checked");
    assert_eq!(one(&admin, state).await, before);
    assert_eq!(std::fs::read_to_string(count.path()).expect("read"), "ran\n", "once");
    assert_eq!(report.drifts, []);
    let told: Vec<String> = report.skipped.iter().map(|one| format!("{}:{} {}", one.key, one.line, one.what)).collect();
    assert_eq!(
        told,
        [
            "a/1.sql:1 CREATE ROLE",
            "a/1.sql:2 ALTER ROLE",
            "a/1.sql:3 GRANT of a role",
            "a/2.sql:2 ALTER SYSTEM",
            "a/2.sql:3 pg_reload_conf()",
            "a/3.sql:1 COPY TO PROGRAM",
            "a/4.sql:1 DO with ALTER ROLE",
            "a/5.sql:1 ALTER DATABASE",
        ]
    );
}

on_both!(what_killed_checks_of_other_databases_left_is_dropped);
async fn what_killed_checks_of_other_databases_left_is_dropped(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    for db in ["killed", "working"] {
        admin.batch("make a database", &format!("CREATE DATABASE {db}")).await.expect("made");
    }
    let working = server.admin("working").await;
    let used: Scratch = made(&working).await.expect("made");
    let killed = server.admin("killed").await;
    let left = made(&killed).await.expect("made").name().to_owned();
    killed.close().await;
    admin.batch("somebody's", "CREATE DATABASE pgdb_drift_1").await.expect("made");
    assert_eq!(scratches(&admin).await, "3");

    apply(&login(server), &[("a/1.sql", "SELECT 1;")]).await;
    let dump = pg_dump(&admin).await;
    let here = files(&[("a/1.sql", "SELECT 1;")]);
    let (login, options) = (login(server), Options::new("test"));
    check(&login, &here, &options, &dump, std::future::pending()).await.expect("checked");
    let names =
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'pgdb\\_drift\\_%'";
    let mut expected = ["pgdb_drift_1", used.name()];
    expected.sort_unstable();
    assert_eq!(one(&admin, names).await, expected.join(" "), "not {left}");
    used.remove(&working).await.expect("dropped");
}

on_both!(what_somebody_put_into_the_target_is_not_run_by_a_check);
async fn what_somebody_put_into_the_target_is_not_run_by_a_check(bed: &Bed) {
    let server = &bed.server;
    let admin = server.admin("postgres").await;
    apply(&login(server), &[("a/1.sql", "SELECT 1;")]).await;
    // As whoever owns the database and its schema `public` can.
    let traps = "CREATE TABLE public.caught (what text);
        CREATE FUNCTION public.trap(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.caught VALUES (what) $$;
        CREATE FUNCTION public.pg_has_role(oid, text) RETURNS bool LANGUAGE sql AS $$ SELECT public.trap('has_role'); SELECT true $$;
        CREATE FUNCTION public.pg_get_userbyid(oid) RETURNS name LANGUAGE sql AS $$ SELECT public.trap('userbyid'); SELECT 'x'::name $$;
        CREATE FUNCTION public.pg_encoding_to_char(int) RETURNS name LANGUAGE sql AS $$ SELECT public.trap('encoding'); SELECT 'UTF8'::name $$;
        CREATE FUNCTION public.shobj_description(oid, name) RETURNS text LANGUAGE sql AS $$ SELECT public.trap('comment'); SELECT '' $$;
        CREATE FUNCTION public.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$ SELECT public.trap('jsonb'); SELECT '{}'::jsonb $$;
        CREATE FUNCTION public.pg_try_advisory_lock(int, int) RETURNS bool LANGUAGE sql AS $$ SELECT public.trap('lock'); SELECT true $$;
        CREATE FUNCTION public.pg_advisory_unlock(int, int) RETURNS bool LANGUAGE sql AS $$ SELECT public.trap('unlock'); SELECT true $$;
        CREATE FUNCTION public.same(name, name) RETURNS bool LANGUAGE sql AS $$ SELECT public.trap('='); SELECT true $$;
        CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.same);
        CREATE FUNCTION public.joined(text, text) RETURNS text LANGUAGE sql AS $$ SELECT public.trap('||'); SELECT '' $$;
        CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.joined);
        ALTER DATABASE postgres SET search_path = public, pg_catalog";
    for trap in traps.split(";\n") {
        admin.batch("set a trap", trap).await.expect(trap);
    }
    let report = checked(server, &files(&[("a/1.sql", "SELECT 1;")])).await.expect("checked");
    assert!(!report.drifts.is_empty(), "the traps themselves");
    let looking =
        pgdb_pg::connect(&server.socket(), ADMIN, None, "postgres", crate::server::PATIENCE).await.expect("in");
    assert_eq!(one(&looking, "SELECT coalesce(string_agg(what, ' '), 'none') FROM public.caught").await, "none");
}

fn over_tcp(server: &Server, password: &SecretString, tls: TlsMode) -> Login {
    Login { target: server.tcp(tls), password: Some(password.clone()), ..login(server) }
}

#[tokio::test]
async fn a_server_without_encryption_is_dumped_with_a_url_that_says_nothing() {
    let server = Server::start("").await;
    let (admin, password) = (server.admin("postgres").await, SecretString::from("secret"));
    provision::set_password(&admin, ADMIN, &scram::verifier(&password)).await.expect("set");
    admin.batch("fill", "CREATE TABLE t (a int)").await.expect("filled");
    let url = format!("postgres://{ADMIN}:secret@127.0.0.1:{}/postgres", server.port);
    let login: Login = pgdb_pg::url::parse(&url).expect("a URL").into();
    let dump = pg_dump(&admin).await;
    dump.reach(&login).await.expect("in");
    assert!(dump.schema(&login, "postgres").await.expect("a dump").contains("CREATE TABLE public.t"));
    let encrypted = over_tcp(&server, &password, TlsMode::Require);
    let refused = dump.reach(&encrypted).await.expect_err("no encryption to be had");
    assert!(matches!(&refused, DumpError::Failed(why) if why.contains("SSL")), "{refused}");
}

#[tokio::test]
async fn a_certificate_is_checked_by_the_dump_as_by_us() {
    let made = certificate("127.0.0.1");
    let server = encrypted_server(&made).await;
    let (admin, password) = (server.admin("postgres").await, SecretString::from("secret"));
    provision::set_password(&admin, ADMIN, &scram::verifier(&password)).await.expect("set");
    let dump = pg_dump(&admin).await;
    for mode in [
        TlsMode::Prefer,
        TlsMode::Require,
        TlsMode::VerifyCa(made.authority.clone()),
        TlsMode::VerifyFull(made.authority.clone()),
    ] {
        dump.reach(&over_tcp(&server, &password, mode.clone()))
            .await
            .unwrap_or_else(|error| panic!("{mode:?}: {error}"));
    }
    let stranger = certificate("127.0.0.1").authority;
    for mode in [TlsMode::VerifyCa(stranger.clone()), TlsMode::VerifyFull(stranger)] {
        dump.reach(&over_tcp(&server, &password, mode)).await.expect_err("another authority");
    }
    let mut renamed = over_tcp(&server, &password, TlsMode::VerifyFull(made.authority.clone()));
    if let pgdb_pg::Target::Tcp { host, .. } = &mut renamed.target {
        *host = "localhost".to_owned();
    }
    let refused = dump.reach(&renamed).await.expect_err("another name");
    assert!(matches!(&refused, DumpError::Failed(why) if why.contains("does not match")), "{refused}");
}

#[tokio::test]
async fn a_session_over_tcp_is_looked_after_by_the_server_too() {
    let server = Server::start("").await;
    let (admin, password) = (server.admin("postgres").await, SecretString::from("secret"));
    provision::set_password(&admin, ADMIN, &scram::verifier(&password)).await.expect("set");
    let texts = [(
        "a/1.sql",
        "CREATE TABLE seen AS SELECT current_setting('tcp_keepalives_idle') || ' ' || \
         current_setting('tcp_keepalives_interval') || ' ' || current_setting('tcp_keepalives_count') || ' ' || \
         current_setting('tcp_user_timeout') AS settings;",
    )];
    apply(&over_tcp(&server, &password, TlsMode::Prefer), &texts).await;
    assert_eq!(one(&admin, "SELECT settings FROM public.seen").await, "10 5 3 25000");
}
