//! Tables as other tools leave them.

use super::{Bed, on_both};
use crate::server::{ADMIN, PATIENCE, Server, one};
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_pg::migrate::import::{Candidate, Matching, Problem, Tool, find_table, match_files, read, write};
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Client, PgError};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(tool: Tool) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import").join(tool.name())
}

/// Key and text of each file.
fn files(tool: Tool) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(fixture(tool).join("files"))
        .expect("files")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            (format!("app/{name}"), fs::read_to_string(path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

async fn matched(client: &Client, tool: Tool, files: &[(String, String)]) -> Matching {
    let table = find_table(client, tool, None).await.expect("the table");
    let history = read(client, tool, &table).await.expect("its rows");
    let candidates: Vec<Candidate<'_>> = files.iter().map(|(key, text)| Candidate { key, text }).collect();
    match_files(tool, &history, &candidates)
}

/// A database with the tool's table.
async fn database(server: &Server, tool: Tool) -> Client {
    let name = tool.name().replace('-', "_");
    let admin = server.admin("postgres").await;
    admin.batch("make a database", &format!("CREATE DATABASE {name}")).await.expect("made");
    let client = server.admin(&name).await;
    let ledger = fs::read_to_string(fixture(tool).join("ledger.sql")).expect("a ledger");
    client.batch("load the ledger", &ledger).await.expect("loaded");
    // A dump empties the search path.
    client.batch("be as a new session", "RESET ALL").await.expect("reset");
    client
}

on_both!(what_each_tool_has_applied_is_found);
async fn what_each_tool_has_applied_is_found(bed: &Bed) {
    let server = &bed.server;
    for tool in Tool::ALL {
        let client = database(server, tool).await;
        let files = files(tool);
        let found = matched(&client, tool, &files).await;
        assert_eq!(found.problems, [], "{tool}");
        let keys: Vec<&str> = found.applied.iter().map(|applied| applied.key.as_str()).collect();
        let expected: Vec<&str> =
            files.iter().map(|(key, _)| key.as_str()).filter(|key| !key.contains("by_day")).collect();
        assert_eq!(keys, expected, "{tool}");
        assert!(matches!(found.pending.as_slice(), [only] if only.contains("by_day")), "{tool}: {found:?}");
        let timed = matches!(tool, Tool::Sqlx | Tool::Flyway);
        assert!(found.applied.iter().all(|applied| applied.took_ms.is_some() == timed), "{tool}: {found:?}");
        let dated = !matches!(tool, Tool::Dbmate | Tool::GolangMigrate);
        for applied in &found.applied {
            assert_eq!(applied.applied_at.is_some(), dated, "{tool}: {applied:?}");
            let stamp = applied.applied_at.clone().unwrap_or_else(|| "now".to_owned());
            one(&client, &format!("SELECT '{stamp}'::timestamptz::text")).await;
        }
    }
}

on_both!(a_file_that_is_not_what_was_run_is_noticed);
async fn a_file_that_is_not_what_was_run_is_noticed(bed: &Bed) {
    let server = &bed.server;
    for tool in [Tool::Sqlx, Tool::Refinery, Tool::Flyway] {
        let client = database(server, tool).await;
        let mut files = files(tool);
        let changed = files.iter_mut().find(|(key, _)| key.contains("notes")).expect("the second file");
        changed.1.push_str("SELECT 1;\n");
        let key = changed.0.clone();
        let found = matched(&client, tool, &files).await;
        assert!(
            matches!(found.problems.as_slice(), [Problem::Changed { applied, .. }] if applied.key == key),
            "{tool}: {found:?}"
        );
    }
}

on_both!(what_was_taken_over_is_not_run_again);
async fn what_was_taken_over_is_not_run_again(bed: &Bed) {
    let server = &bed.server;
    drop(database(server, Tool::Sqlx).await);
    let login =
        Login { target: server.socket(), user: ADMIN.into(), password: None, db: "sqlx".into(), timeout: PATIENCE };
    let texts = files(Tool::Sqlx);
    let files: Vec<File> =
        texts.iter().map(|(key, text)| File::new(Key::parse(key).expect(key), text.clone().into_bytes())).collect();
    let mut session = Session::open(&login).await.expect("in");
    let found = matched(session.client(), Tool::Sqlx, &texts).await;
    let rows: Vec<_> = found.applied.into_iter().zip(files.iter().map(|file| file.checksum)).collect();
    for expected in [2, 0] {
        let written = write(&session, Tool::Sqlx, &rows).await.expect("written");
        assert_eq!(written, expected, "the second time there is nothing to write");
    }
    let ledger = "SELECT string_agg(concat_ws(' ', key, outcome, version, took_ms, applied_at = installed_on), ', ' \
                  ORDER BY id) FROM pgdb.migrations JOIN public._sqlx_migrations ON key LIKE '%' || version_number || '_%'";
    let ledger =
        ledger.replace("version_number", "_sqlx_migrations.version").replace(" version,", " migrations.version,");
    assert_eq!(
        one(session.client(), &ledger).await,
        "app/0001_shop.sql imported sqlx 13 t, app/0002_notes.sql imported sqlx 11 t"
    );

    // The tables are there as sqlx left them; only the third file runs.
    let made = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, day date NOT NULL, note text)";
    session.client().batch("make what sqlx made", made).await.expect("made");
    let report = run(&mut session, &files, &Options::new("test"), &mut |_| {}).await.expect("run");
    let ran: Vec<&str> = report.files.iter().map(|file| file.key.as_str()).collect();
    assert_eq!((ran.as_slice(), report.is_complete()), (&["app/0003_by_day.sql"][..], true));
    assert_eq!(one(session.client(), "SELECT count(*)::text FROM public._sqlx_migrations").await, "2");
}

on_both!(tables_are_told_apart);
async fn tables_are_told_apart(bed: &Bed) {
    let server = &bed.server;
    let client = database(server, Tool::GolangMigrate).await;
    let missing = find_table(&client, Tool::Dbmate, None).await.expect_err("golang-migrate's is none of dbmate's");
    assert!(
        matches!(&missing, PgError::Missing { kind: "table", name, .. } if name == "schema_migrations"),
        "{missing}"
    );
    client.batch("dirty", "UPDATE schema_migrations SET dirty = true").await.expect("set");
    let found = matched(&client, Tool::GolangMigrate, &files(Tool::GolangMigrate)).await;
    assert!(matches!(found.problems.as_slice(), [Problem::Failed { .. }]), "{found:?}");

    let copy = "CREATE SCHEMA \"O\"\"dd\"; CREATE TABLE \"O\"\"dd\".schema_migrations AS TABLE schema_migrations";
    client.batch("copy the table", copy).await.expect("copied");
    let several = find_table(&client, Tool::GolangMigrate, None).await.expect_err("which one?");
    assert!(several.to_string().contains("choose with --table"), "{several}");
    let chosen = find_table(&client, Tool::GolangMigrate, Some("O\"dd.schema_migrations")).await.expect("this one");
    assert_eq!(read(&client, Tool::GolangMigrate, &chosen).await.expect("its rows").len(), 1);
}
