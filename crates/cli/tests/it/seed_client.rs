//! A stock HTTP client that follows the seed document of the original daemon to the letter: raw HTTP/1.1 as curl
//! writes it, nothing of our own types.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::sql;
use pgdb_testkit::world::assert_nothing_left;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// A client with an address and a token, as the seed's shell examples have them.
struct Curl<'a> {
    port: u16,
    token: &'a str,
}

struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Response {
    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let content_type = self.headers.get("content-type").map_or("", String::as_str);
        assert!(content_type.starts_with("application/json"), "{content_type}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Curl<'_> {
    /// One request on a connection of its own. Headers are given as curl's `-H` takes them.
    fn request(&self, method: &str, path: &str, headers: &[&str], body: Option<&str>) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", self.port);
        text.push_str("User-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: close\r\n");
        for header in headers {
            text.push_str(&format!("{header}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a time limit");
        stream.write_all(text.as_bytes()).expect("send the request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("read the answer");
        parse(&String::from_utf8(answer).expect("the answer is text"))
    }

    /// The same with the token.
    fn authorized(&self, method: &str, path: &str, body: Option<&str>) -> Response {
        let bearer = format!("Authorization: Bearer {}", self.token);
        self.request(method, path, &[&bearer], body)
    }

    /// As the seed's CLI sends it.
    fn deploy(&self, body: Option<&str>) -> Value {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let headers: &[&str] = if body.is_some() { &[&bearer, "Content-Type: application/json"] } else { &[&bearer] };
        self.request("POST", "/v1/deploy", headers, body).json(200)
    }
}

fn parse(text: &str) -> Response {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a status line");
    assert!(status.starts_with("HTTP/1.1 "), "{status}");
    let status = status[9..12].parse().expect("a status code");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked"));
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Response { status, headers, body }
}

fn unchunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).expect("a chunk's length");
        if length == 0 {
            break;
        }
        body.push_str(&rest[..length]);
        text = rest[length..].trim_start_matches("\r\n");
    }
    body
}

/// Keys and the types of their values, in the order of the keys.
fn shape(object: &Value) -> Vec<(&str, &'static str)> {
    let fields = object.as_object().expect("an object");
    let mut shape: Vec<(&str, &'static str)> = fields
        .iter()
        .map(|(name, value)| {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            (name.as_str(), kind)
        })
        .collect();
    shape.sort_unstable();
    shape
}

const DEPLOYMENT: [(&str, &str); 9] = [
    ("created_at", "string"),
    ("database_url", "string"),
    ("db", "string"),
    ("host", "string"),
    ("name", "string"),
    ("password", "string"),
    ("port", "number"),
    ("postgres_version", "number"),
    ("user", "string"),
];

/// `prefix` and then exactly `count` lower-case letters or digits.
fn is_generated(text: &Value, prefix: &str, count: usize) -> bool {
    let rest = text.as_str().and_then(|text| text.strip_prefix(prefix)).unwrap_or_default();
    rest.len() == count && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} is a text in {object}"))
}

fn check_deployment(deployment: &Value) {
    assert_eq!(shape(deployment), DEPLOYMENT);
    assert!(is_generated(&deployment["db"], "pg_", 10), "{deployment}");
    assert!(is_generated(&deployment["user"], "u_", 10), "{deployment}");
    assert_eq!(deployment["host"], "127.0.0.1");
    // At 64 symbols 22 characters are 128 bits; none of them needs to be encoded in a URL.
    let password = text(deployment, "password");
    assert!(password.len() >= 22, "{} characters are less than 128 bits", password.len());
    assert!(password.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)));
    let url = format!(
        "postgres://{}:{password}@127.0.0.1:{}/{}?sslmode=disable",
        text(deployment, "user"),
        deployment["port"],
        text(deployment, "db")
    );
    assert_eq!(text(deployment, "database_url"), url);
    let created_at = text(deployment, "created_at");
    assert!(created_at.parse::<jiff::Timestamp>().is_ok() && created_at.ends_with('Z'), "{created_at}");
    assert!((13..=18).contains(&deployment["postgres_version"].as_u64().expect("an integer")));
}

#[tokio::test]
async fn the_seeds_integration_test_passes() {
    let daemon = Daemon::start(BINARY).await;
    let curl = Curl { port: daemon.http_port(), token: daemon.token() };
    let deployment = curl.deploy(Some(r#"{"name":"mydb","size_gb":1}"#));
    daemon.remember(text(&deployment, "password"));
    check_deployment(&deployment);
    assert_eq!(deployment["name"], "mydb");
    assert_eq!(sql::run(text(&deployment, "database_url"), "SELECT 1").await, "1");

    let status = curl.authorized("GET", "/v1/status", None).json(200);
    assert_eq!(shape(&status), [("items", "array")]);
    let item = &status["items"][0];
    let items = shape(item);
    for (field, kind) in [
        ("container_id", "string"),
        ("created_at", "string"),
        ("database_url", "string"),
        ("db", "string"),
        ("host", "string"),
        ("host_port", "number"),
        ("name", "string"),
        ("password", "string"),
        ("postgres_version", "number"),
        ("runtime", "string"),
        ("size_gb", "number"),
        ("state", "string"),
        ("user", "string"),
        ("volume_name", "string"),
    ] {
        assert!(items.contains(&(field, kind)), "{field} is not a {kind} in {item}");
    }
    for field in ["name", "host", "db", "user", "password", "database_url", "created_at", "postgres_version"] {
        assert_eq!(item[field], deployment[field], "{field}");
    }
    assert_eq!(item["host_port"], deployment["port"]);
    assert_eq!((&item["volume_name"], &item["size_gb"]), (&json!("pgdb-mydb"), &json!(1)));

    let destroyed = curl.authorized("DELETE", "/v1/db/mydb?keep_data=false", None).json(200);
    assert_eq!(destroyed, json!({ "ok": true }));
    assert_eq!(curl.authorized("GET", "/v1/status", None).json(200), json!({ "items": [] }));
    assert_nothing_left(&daemon, &[]).await;
}

#[tokio::test]
async fn every_field_of_a_deploy_may_be_left_out() {
    let daemon = Daemon::start(BINARY).await;
    let curl = Curl { port: daemon.http_port(), token: daemon.token() };
    let bearer = format!("Authorization: Bearer {}", daemon.token());
    let mut names = Vec::new();
    for deployment in [
        curl.deploy(None),
        curl.deploy(Some("{}")),
        curl.deploy(Some("")),
        // curl's own Content-Type for --data.
        curl.request("POST", "/v1/deploy", &[&bearer, "Content-Type: application/x-www-form-urlencoded"], Some("{}"))
            .json(200),
        // Fetch sends an empty body with a length and no type.
        curl.request("POST", "/v1/deploy", &[&bearer, "Content-Length: 0"], None).json(200),
    ] {
        daemon.remember(text(&deployment, "password"));
        check_deployment(&deployment);
        assert!(is_generated(&deployment["name"], "db-", 8), "{deployment}");
        assert_eq!(sql::run(text(&deployment, "database_url"), "SELECT 1").await, "1");
        names.push(text(&deployment, "name").to_owned());
    }
    let newest = daemon.get("/v1/engines").await.expect(200)["items"][0]["major"].clone();
    let body = format!(r#"{{"version":{newest},"name":"inorder"}}"#);
    let deployment = curl.deploy(Some(&body));
    daemon.remember(text(&deployment, "password"));
    assert_eq!((&deployment["postgres_version"], &deployment["name"]), (&newest, &json!("inorder")));
    names.push("inorder".to_owned());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_nothing_left(&daemon, &names).await;
    let data_kept = curl.authorized("DELETE", "/v1/db/inorder?keep_data=true", None).json(200);
    assert_eq!(data_kept["ok"], true);
}

#[tokio::test]
async fn what_is_wrong_is_said_as_the_contract_says() {
    let daemon = Daemon::start(BINARY).await;
    let curl = Curl { port: daemon.http_port(), token: daemon.token() };
    let deployment = curl.deploy(Some(r#"{"name":"taken"}"#));
    daemon.remember(text(&deployment, "password"));

    let twice = curl.authorized("POST", "/v1/deploy", Some(r#"{"name":"Taken"}"#)).json(409);
    assert_eq!(twice["message"], "database name 'taken' already exists");

    let strong_but_wrong = "0".repeat(64);
    for token in ["", "wrong", &strong_but_wrong, &daemon.token()[..63]] {
        let bearer = format!("Authorization: Bearer {token}");
        let answer = curl.request("GET", "/v1/status", &[&bearer], None);
        assert_eq!(answer.json(401)["error"], "unauthorized");
        assert!(!answer.body.contains("taken"), "{}", answer.body);
    }
    for (method, path) in [("POST", "/v1/deploy"), ("GET", "/v1/status"), ("DELETE", "/v1/db/taken")] {
        let answer = curl.request(method, path, &[], None);
        assert_eq!(answer.json(401)["error"], "unauthorized", "{method} {path}");
    }
    let basic = curl.request("GET", "/v1/status", &["Authorization: Basic dXNlcjpwYXNz"], None);
    assert_eq!(basic.status, 401);

    let unknown = curl.authorized("DELETE", "/v1/db/nowhere", None).json(404);
    assert_eq!(unknown["error"], "database_not_found");
    assert!(text(&unknown, "message").contains("nowhere"));
    for body in [
        r#"{"name":"ab"}"#,
        r#"{"name":"1db"}"#,
        r#"{"name":"my_db"}"#,
        r#"{"name":"../etc"}"#,
        r#"{"name":"a b c"}"#,
        r#"{"name":7}"#,
        r#"{"size_gb":0}"#,
        r#"{"size_gb":-1}"#,
        r#"{"size_gb":"2"}"#,
        r#"{"version":"latest"}"#,
        r#"{"version":1}"#,
        r#"{"nmae":"typo"}"#,
        r#"{"name":"open"#,
        "[]",
        "null",
        "\"mydb\"",
    ] {
        let answer = curl.authorized("POST", "/v1/deploy", Some(body));
        assert!([400, 422].contains(&answer.status), "{body}: {} {}", answer.status, answer.body);
        let error = answer.json(answer.status);
        assert!(!text(&error, "error").is_empty() && !text(&error, "message").is_empty(), "{body}: {error}");
        assert_eq!(Some(text(&error, "request_id")), answer.headers.get("x-request-id").map(String::as_str));
    }
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20));
    assert_eq!(curl.authorized("POST", "/v1/deploy", Some(&large)).status, 413);
    assert_eq!(curl.authorized("GET", "/v1/nothing", None).json(404)["error"].as_str().map(str::is_empty), Some(false));
    assert_eq!(curl.authorized("PUT", "/v1/deploy", Some("{}")).status, 405);
    assert_eq!(curl.request("GET", "/healthz", &[], None).json(200), json!({ "ok": true }));
    assert_nothing_left(&daemon, &["taken"]).await;
}

#[tokio::test]
async fn the_host_is_what_the_client_called_us_unless_one_is_set() {
    let mut daemon = Daemon::start(BINARY).await;
    let bearer = format!("Authorization: Bearer {}", daemon.token());
    let answer = {
        let text = format!(
            "POST /v1/deploy HTTP/1.1\r\nHost: localhost:{}\r\n{bearer}\r\nConnection: close\r\n\r\n",
            daemon.http_port()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.http_port())).expect("connect");
        stream.write_all(text.as_bytes()).expect("send the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read the answer");
        parse(&answer).json(200)
    };
    daemon.remember(text(&answer, "password"));
    assert_eq!(answer["host"], "localhost");
    assert!(text(&answer, "database_url").contains("@localhost:"), "{answer}");
    daemon.kill9().await;
    daemon.up(&[("PGDB_PUBLIC_HOST", "127.0.0.2")]).await;
    let public = daemon.deploy_named("public").await;
    assert_eq!(public["host"], "127.0.0.2");
    assert_eq!(sql::run(text(&public, "database_url"), "SELECT 1").await, "1");
    let name = text(&answer, "name").to_owned();
    assert_nothing_left(&daemon, &[&name, "public"]).await;
}
