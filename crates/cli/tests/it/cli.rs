//! The command line: against a daemon of its own, against none, and against one that behaves as the original does.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// The command with a home of its own and nothing of this process's settings.
fn pgdb(home: &Path, url: Option<&str>) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PGDB_")) {
        command.env_remove(name);
    }
    command.env_remove("XDG_CONFIG_HOME").env_remove("PORT").env("HOME", home).env("PGDB_DATA_DIR", home.join("none"));
    if let Some(url) = url {
        command.env("PGDB_SERVER_URL", url);
    }
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("pgdb runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn fine(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[test]
fn a_daemon_that_says_nothing_is_not_healthy() {
    let home = tempfile::tempdir().expect("a home");
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let output = run(pgdb(home.path(), Some(&url)).args(["health", "--timeout", "1"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("did not answer within 1 s"), "{}", stderr(&output));
}

#[test]
fn wrong_use_is_2_and_touches_nothing() {
    let home = tempfile::tempdir().expect("a home");
    for wrong in [
        vec!["nonsense"],
        vec!["destroy"],
        vec!["deploy", "--size", "many"],
        vec!["deploy", "--name", "A B"],
        vec!["show", "../etc"],
        vec!["token", "create", "--name", "x", "--scope", "everything"],
        vec!["config", "set", "server.default", "ftp://x"],
        vec!["--server", "unknown", "status"],
        vec!["migrate", "rollout", "--preview", "abc", "--dir", "/"],
    ] {
        let output = run(pgdb(home.path(), Some("http://127.0.0.1:1")).args(&wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{wrong:?}");
    }
    assert!(!home.path().join(".config").exists());
    for (wrong, told) in [
        (&["--server", "nowhere", "status"][..], "which names none; `pgdb config set server.nowhere URL` adds it"),
        (&["migrate", "rollout", "--preview", "abc"], "'abc' is no pull request's number"),
        (&["migrate", "run", "--wait", "5"], "such as 90s"),
        (&["migrate", "run", "--on", "medusa_pr_7"], "`pgdb migrate rollout --preview 7` runs files in it"),
    ] {
        let output = run(pgdb(home.path(), None).args(wrong));
        assert!(output.status.code() == Some(2) && stderr(&output).contains(told), "{wrong:?}: {}", stderr(&output));
    }
}

#[test]
fn words_of_other_tools_get_a_tip() {
    let home = tempfile::tempdir().expect("a home");
    for (typed, tip) in [
        ("migrate up", "`pgdb migrate run` runs"),
        ("migrate down", "there are no ways back"),
        ("migrate rollback --steps 1", "there are no ways back"),
        ("migrate run --dry-run", "`pgdb migrate plan` tells"),
        ("migrate watch --on target", "`pgdb url NAME --reveal`"),
    ] {
        let output = run(pgdb(home.path(), None).args(typed.split(' ')));
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains("tip: ") && said.contains(tip), "{said}");
        assert!(!said.contains("--only"), "{said}");
    }
    assert!(!stderr(&run(pgdb(home.path(), None).arg("down-with"))).contains("ways back"));
}

#[test]
fn the_configuration_is_the_originals_and_nobody_else_can_read_it() {
    let home = tempfile::tempdir().expect("a home");
    fine(&run(pgdb(home.path(), None).args(["config", "set", "server.default", "http://203.0.113.10:8080/"])));
    let file = home.path().join(".config/pgdb/config.json");
    let document: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    let expected = serde_json::json!({"defaultServer": "default", "servers": {"default": "http://203.0.113.10:8080"}});
    assert_eq!(document, expected);
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

    let with_more = r#"{"defaultServer":"default","servers":{"default":"http://a"},"theirs":[1]}"#;
    std::fs::write(&file, with_more).expect("written");
    fine(&run(pgdb(home.path(), None).args(["config", "set", "server.second", "http://127.0.0.1:2"])));
    fine(&run(pgdb(home.path(), None).args(["config", "use", "second"])));
    let document: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!((&document["theirs"][0], &document["defaultServer"]), (&1.into(), &"second".into()));
    assert_eq!(fine(&run(pgdb(home.path(), None).args(["config", "get", "defaultServer"]))), "second\n");

    std::fs::write(&file, "not json").expect("written");
    let output = run(pgdb(home.path(), None).args(["config", "list"]));
    assert!(stderr(&output).contains("config.json"), "{}", stderr(&output));
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_what_to_do() {
    let home = tempfile::tempdir().expect("a home");
    let output = run(pgdb(home.path(), Some("http://127.0.0.1:1")).arg("status"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("pgdb serve") && stdout(&output).is_empty(), "{}", stderr(&output));
    let output = run(pgdb(home.path(), Some("http://127.0.0.1:1")).args(["status", "--json"]));
    let error: Value = serde_json::from_str(&stderr(&output)).expect("errors are JSON too");
    assert_eq!(error["error"], "failed");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let home = tempfile::tempdir().expect("a home");
    assert!(fine(&run(pgdb(home.path(), None).args(["completions", "bash"]))).contains("rotate-password"));
    let pages = home.path().join("man");
    fine(&run(pgdb(home.path(), None).args(["man", "--dir"]).arg(&pages)));
    assert!(pages.join("pgdb-deploy.1").exists() && pages.join("pgdb.1").exists());
}

#[test]
fn the_help_of_a_command_begins_with_its_own_flags() {
    let home = tempfile::tempdir().expect("a home");
    for command in ["serve", "migrate run", "migrate watch", "migrate lint", "preview ensure", "infra list", "status"] {
        let help =
            fine(&run(pgdb(home.path(), None).env("MIGRATIONS_DIR", "held").args(command.split(' ')).arg("--help")));
        let (own, global) = help.split_once("\nGlobal options:\n").expect(command);
        let flags = ["--server", "--json", "--wait-timeout", "--yes", "--quiet", "--no-color"];
        assert!(flags.iter().all(|flag| global.contains(flag) && !own.contains(&format!("{flag} "))), "{help}");
        assert!(!global.contains("\n\n  ") && !global.contains("\nOptions:"), "{help}");
        // Variables by their names, and a line or a few for each flag.
        assert!(!help.contains("=]") && !help.contains("held") && !own.contains("\n\n      --"), "{help}");
    }
}

#[test]
fn what_cannot_be_written_is_told_and_a_reader_that_has_gone_is_not() {
    let home = tempfile::tempdir().expect("a home");
    let commands: [&[&str]; 3] = [&["completions", "bash"], &["man"], &["config", "list"]];
    for args in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = run(pgdb(home.path(), None).args(args).stdout(writer));
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""), "{args:?}");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
        let output = run(pgdb(home.path(), None).args(args).stdout(full));
        assert!(output.status.code() == Some(1) && stderr(&output).contains("No space left"), "{}", stderr(&output));
    }
}

/// One request as the original daemon would see it: its first line, its Authorization header and its body.
fn serve_once(listener: &TcpListener, answer: (u16, &str)) -> (String, String, String) {
    let (stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(stream);
    let (mut first, mut authorization, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).expect("a request");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").expect("a header");
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.clone_into(&mut authorization),
            "content-length" => length = value.parse().expect("a length"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let (status, text) = answer;
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let mut stream = reader.into_inner();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).expect("answered");
    (first.trim_end().to_owned(), authorization, String::from_utf8(body).expect("text"))
}

/// Runs the command against one answer of the original daemon.
fn against_original(args: &[&str], answer: (u16, &str)) -> (Output, (String, String, String)) {
    let home = tempfile::tempdir().expect("a home");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let child = pgdb(home.path(), Some(&url))
        .args(args)
        .env("PGDB_TOKEN", "dev-token")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pgdb runs");
    let seen = serve_once(&listener, answer);
    (child.wait_with_output().expect("ended"), seen)
}

const DEPLOYED: &str = r#"{"name":"mydb","host":"203.0.113.10","port":32785,"db":"pg_3w7x9q2mzd","user":"u_4p9ks2j8ra",
  "password":"1LkQ","database_url":"postgres://u_4p9ks2j8ra:1LkQ@203.0.113.10:32785/pg_3w7x9q2mzd?sslmode=disable",
  "created_at":"2026-01-02T03:04:05.678901234Z","postgres_version":16}"#;

#[test]
fn it_speaks_to_the_original_daemon() {
    let (output, (line, authorization, body)) =
        against_original(&["deploy", "--name", "mydb", "--size", "5"], (200, DEPLOYED));
    let lines = "name: mydb\nhost: 203.0.113.10\nport: 32785\ndb: pg_3w7x9q2mzd\nuser: u_4p9ks2j8ra\npassword: 1LkQ\n\
        DATABASE_URL: postgres://u_4p9ks2j8ra:1LkQ@203.0.113.10:32785/pg_3w7x9q2mzd?sslmode=disable\n";
    assert_eq!(fine(&output), lines);
    assert_eq!((line.as_str(), authorization.as_str()), ("POST /v1/deploy HTTP/1.1", "Bearer dev-token"));
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body, serde_json::json!({"name": "mydb", "size_gb": 5}), "nothing that the original does not know");

    let (output, _) = against_original(&["deploy", "--json"], (200, DEPLOYED));
    let printed: Value = serde_json::from_str(&fine(&output)).expect("JSON");
    let keys: Vec<&String> = printed.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["DATABASE_URL", "db", "host", "name", "password", "port", "user"]);

    let item = r#"{"items":[{"name":"mydb","container_id":"c1","volume_name":"pgdb-mydb","host":"h","host_port":32785,
      "db":"d","user":"u","password":"p","created_at":"2026-01-02T03:04:05Z","postgres_version":16,"size_gb":null}]}"#;
    let (output, (line, _, _)) = against_original(&["status"], (200, item));
    assert!(fine(&output).contains("mydb") && line == "GET /v1/status HTTP/1.1", "{line}");

    let (output, (line, _, _)) = against_original(&["destroy", "mydb", "--keep-data"], (200, r#"{"ok":true}"#));
    assert_eq!(fine(&output), "destroyed: mydb\n");
    assert_eq!(line, "DELETE /v1/db/mydb?keep_data=true HTTP/1.1");

    let (output, _) =
        against_original(&["deploy", "--name", "mydb"], (409, r#"{"error":"database name 'mydb' already exists"}"#));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "error: database name 'mydb' already exists\n");
}

#[tokio::test]
async fn every_command_does_what_it_says() {
    let daemon = Daemon::start(BINARY).await;
    let home = tempfile::tempdir().expect("a home");
    let url = format!("http://127.0.0.1:{}", daemon.http_port());
    let pgdb = |args: &[&str]| run(pgdb(home.path(), Some(&url)).env("PGDB_TOKEN", daemon.token()).args(args));

    let output = pgdb(&["deploy", "--name", "mydb", "--json"]);
    assert!(output.stderr.is_empty(), "nothing but data on a pipe: {}", stderr(&output));
    let deployed: Value = serde_json::from_str(&fine(&output)).expect("JSON");
    let database_url = deployed["DATABASE_URL"].as_str().expect("a URL");
    daemon.remember(deployed["password"].as_str().expect("a password"));
    sql::run(database_url, "CREATE TABLE note AS SELECT 'kept' AS text").await;

    assert_eq!(fine(&pgdb(&["psql", "mydb", "--", "-XAtc", "SELECT text FROM note"])), "kept\n");
    let elsewhere = [("PGSERVICE", "nowhere"), ("PGHOSTADDR", "127.0.0.2"), ("PGOPTIONS", "-c no.such=1 -x")];
    let asked = ["psql", "mydb", "--", "-XAtc", "SELECT current_database()"];
    let output = run(self::pgdb(home.path(), Some(&url)).env("PGDB_TOKEN", daemon.token()).args(asked).envs(elsewhere));
    assert_eq!(
        fine(&output).trim(),
        deployed["db"].as_str().expect("a database"),
        "the caller's PG variables do not lead astray"
    );
    let masked = fine(&pgdb(&["url", "mydb"]));
    assert!(masked.contains(":***@") && fine(&pgdb(&["url", "mydb", "--reveal"])).trim() == database_url, "{masked}");
    assert!(!fine(&pgdb(&["show", "mydb"])).contains(deployed["password"].as_str().expect("a password")));
    assert_eq!(fine(&pgdb(&["list"])).lines().count(), 2);
    assert!(fine(&pgdb(&["logs", "mydb"])).contains("ready to accept connections"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut follow = self::pgdb(home.path(), Some(&url));
    follow.env("PGDB_TOKEN", daemon.token()).args(["logs", "mydb", "--follow"]).stdout(writer).stderr(Stdio::piped());
    let follow = follow.spawn().expect("pgdb runs");
    let mut first = String::new();
    BufReader::new(reader).read_line(&mut first).expect("a line");
    sql::run(database_url, "DO $$ BEGIN RAISE LOG 'somebody reads this, or nobody'; END $$").await;
    let output = follow.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""), "nobody reads it");
    assert!(fine(&pgdb(&["doctor"])).contains("engines"));
    assert!(fine(&pgdb(&["operations", "list", "--subject", "instance/mydb"])).contains("instance.deploy"));
    assert!(fine(&pgdb(&["audit"])).contains("POST /v1/deploy"));
    assert!(fine(&pgdb(&["engine", "list"])).contains("default"));
    assert!(fine(&pgdb(&["version"])).contains("server"));
    assert_eq!(fine(&pgdb(&["health"])), "ready\n");
    assert!(fine(&pgdb(&["ca"])).starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(fine(&pgdb(&["registry", "export"])).contains("\"host_port\""));

    let metrics = String::from_utf8(daemon.get("/metrics").await.bytes).expect("text");
    assert!(metrics.contains(r#"instances{state="running"} 1"#), "{metrics}");
    assert!(metrics.contains("instance.deploy"), "{metrics}");

    let dump = home.path().join("mydb.dump");
    fine(&pgdb(&["dump", "mydb", "-o", dump.to_str().expect("a path")]));
    assert_eq!(std::fs::metadata(&dump).expect("a dump").permissions().mode() & 0o777, 0o600);
    let link = home.path().join("link.dump");
    std::os::unix::fs::symlink(home.path().join("target.dump"), &link).expect("a link");
    std::fs::write(home.path().join("target.dump"), "").expect("a target");
    fine(&pgdb(&["dump", "mydb", "-o", link.to_str().expect("a path")]));
    assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink(), "a link is written through");
    assert!(std::fs::read(&link).expect("a dump").starts_with(b"PGDMP"));
    let full = pgdb(&["dump", "mydb", "-o", "/dev/full"]);
    assert!(full.status.code() == Some(1) && stderr(&full).contains("No space left"), "{}", stderr(&full));
    sql::run(database_url, "DROP TABLE note").await;
    fine(&pgdb(&["restore", "mydb", dump.to_str().expect("a path")]));
    assert_eq!(sql::run(database_url, "SELECT text FROM note").await, "kept");
    let script = home.path().join("more.sql");
    std::fs::write(&script, "INSERT INTO note VALUES ('more');\nSELECT 1/0;\n").expect("written");
    assert_eq!(pgdb(&["restore", "mydb", script.to_str().expect("a path")]).status.code(), Some(1));
    assert_eq!(sql::run(database_url, "SELECT count(*) FROM note").await, "1", "a script is kept whole or not at all");
    std::fs::write(&script, "INSERT INTO note VALUES ('more')").expect("written");
    let said = fine(&pgdb(&["restore", "mydb", script.to_str().expect("a path")]));
    assert_eq!(said, "the SQL file was run in 'mydb'\n");
    assert_eq!(sql::run(database_url, "DELETE FROM note WHERE text = 'more' RETURNING text").await, "more");
    // psql would take each of these for a success.
    let head = "--\n-- PostgreSQL database dump\n--\n\nCOPY public.note (text) FROM stdin;\ncut\n";
    for (content, told) in [("", "is empty"), (" \n\n", "is empty"), (head, "cut short")] {
        std::fs::write(&script, content).expect("written");
        let output = pgdb(&["restore", "mydb", script.to_str().expect("a path")]);
        assert!(output.status.code() == Some(1) && stderr(&output).contains(told), "{told}: {}", stderr(&output));
    }
    assert_eq!(sql::run(database_url, "SELECT count(*) FROM note").await, "1", "nothing was restored");
    std::fs::write(&script, format!("{head}\\.\n--\n-- PostgreSQL database dump complete\n--\n\nSELECT 1;\n"))
        .expect("written");
    fine(&pgdb(&["restore", "mydb", script.to_str().expect("a path")]));
    assert_eq!(sql::run(database_url, "DELETE FROM note WHERE text = 'cut' RETURNING text").await, "cut");

    fine(&pgdb(&["protect", "mydb"]));
    let refused = pgdb(&["destroy", "mydb"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("unprotect"), "{}", stderr(&refused));
    fine(&pgdb(&["unprotect", "mydb"]));
    fine(&pgdb(&["stop", "mydb"]));
    for arguments in [
        &["psql", "mydb"][..],
        &["restore", "mydb", script.to_str().expect("a path")],
        &["migrate", "history", "--on", "mydb"],
    ] {
        let output = pgdb(arguments);
        let told = "the instance 'mydb' is stopped; start it: `pgdb start mydb`";
        assert!(
            output.status.code() == Some(1) && stderr(&output).contains(told),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let output = pgdb(&["psql", "nope"]);
    assert!(stderr(&output).contains("'nope'; `pgdb status` shows all"), "{}", stderr(&output));
    for verb in ["start", "restart"] {
        fine(&pgdb(&[verb, "mydb"]));
    }
    let created: Value =
        serde_json::from_str(&fine(&pgdb(&["token", "create", "--name", "ci", "--scope", "instances:read", "--json"])))
            .expect("JSON");
    daemon.remember(created["token"].as_str().expect("a token"));
    let id = created["info"]["id"].as_str().expect("an id");
    fine(&pgdb(&["token", "revoke", id]));
    assert!(fine(&pgdb(&["token", "list"])).contains("revoked"));
    assert_eq!(fine(&pgdb(&["destroy", "mydb"])), "destroyed: mydb\n");
    assert_nothing_left(&daemon, &[]).await;
}
