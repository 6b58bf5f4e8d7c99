//! A daemon, and beside it a PostgreSQL server as the seed's guide prepares one: an operator that is no superuser, a
//! dev role, and a template that belongs to the operator with everything in it.
//!
//! The server is an instance of the same daemon, because that knows how to run one; the previews know it only by
//! `PGHOST` and the other variables.

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::{sql, wait};
use serde_json::{Value, json};
use std::time::Duration;

/// The instance that the server is.
pub(crate) const SERVER: &str = "server";
/// The operator's password.
const OPERATOR_PASSWORD: &str = "the operator's own, with a ' in it";
/// What passwords are derived from.
pub(crate) const APP_SECRET: &str = "a secret of the tests, and of nobody else";

pub(crate) struct Bed {
    pub(crate) daemon: Daemon,
    port: u64,
    admin: String,
    password: String,
    sslmode: &'static str,
}

/// What the template holds: of every kind that a role can own something.
const TEMPLATE: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL);
    INSERT INTO shop.orders (note) SELECT 'order ' || n FROM generate_series(1, 100) n;
    CREATE TABLE public.customers (id serial PRIMARY KEY, name text);
    INSERT INTO public.customers (name) VALUES ('Ann'), ('Bob');
    CREATE VIEW shop.recent AS SELECT * FROM shop.orders ORDER BY id DESC LIMIT 10;
    CREATE MATERIALIZED VIEW shop.counted AS SELECT count(*) AS n FROM shop.orders;
    CREATE TYPE shop.mood AS ENUM ('fine', 'bad');
    CREATE FUNCTION shop.twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT n * 2';
    CREATE SEQUENCE public.numbers;
    CREATE TABLE shop.parts (id integer, at date) PARTITION BY RANGE (at);
    CREATE TABLE shop.parts_1 PARTITION OF shop.parts FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
    CREATE DOMAIN shop.price AS numeric CHECK (VALUE >= 0);
    CREATE TYPE shop.span AS RANGE (subtype = integer);
    CREATE TYPE shop.pair AS (a integer, b text);
    CREATE PROCEDURE shop.nothing() LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE shop.total(integer) (sfunc = int4pl, stype = integer, initcond = '0');
    CREATE FUNCTION shop.same(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
    CREATE OPERATOR shop.=== (leftarg = integer, rightarg = integer, function = shop.same);
    CREATE TEXT SEARCH DICTIONARY shop.dictionary (TEMPLATE = simple);
    CREATE TEXT SEARCH CONFIGURATION shop.words (COPY = simple);
    CREATE COLLATION shop.plain (provider = libc, locale = 'C');
    CREATE STATISTICS shop.numbers ON id, note FROM shop.orders;
    CREATE CONVERSION shop.conversion FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
    CREATE PUBLICATION told FOR TABLE shop.orders;
    SELECT lo_create(4711);
    CREATE EXTENSION citext SCHEMA shop;
";

impl Bed {
    /// With the seed's defaults.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more in the daemon's environment.
    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Self {
        let bed = Self::bare(None).await;
        bed.prepare_server().await;
        bed.told(env).await
    }

    /// The same on a PostgreSQL of this major.
    pub(crate) async fn start_on(major: u16, env: &[(&str, &str)]) -> Self {
        let bed = Self::bare(major).await;
        bed.prepare_server().await;
        bed.told(env).await
    }

    /// A server that nobody has prepared, and a daemon that does not know of it yet.
    pub(crate) async fn bare(major: impl Into<Option<u16>>) -> Self {
        Self::with_server(json!({ "name": SERVER, "superuser": true, "version": major.into() })).await
    }

    /// The same on a server that insists on TLS.
    pub(crate) async fn start_encrypted(env: &[(&str, &str)]) -> Self {
        let bed = Self::with_server(json!({ "name": SERVER, "superuser": true, "tls": true })).await;
        bed.prepared().await.told(env).await
    }

    /// With the roles and the template on its server.
    pub(crate) async fn prepared(self) -> Self {
        self.prepare_server().await;
        self
    }

    async fn with_server(asked: Value) -> Self {
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_pgdb")).await;
        let sslmode = if asked["tls"] == true { "require" } else { "disable" };
        let server = daemon.deploy(asked).await;
        let text = |field: &str| server[field].as_str().expect(field).to_owned();
        let port = server["port"].as_u64().expect("a port");
        Self { daemon, port, admin: text("user"), password: text("password"), sslmode }
    }

    /// Tells the daemon of the server, and more.
    pub(crate) async fn told(mut self, env: &[(&str, &str)]) -> Self {
        let port = self.port.to_string();
        let known = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port),
            ("PGUSER", "zane_operator"),
            ("PGPASSWORD", OPERATOR_PASSWORD),
            ("DB_PREVIEW_APP_PASSWORD_SECRET", APP_SECRET),
            // What is kept ready comes and goes by itself, so a test that wants it says so.
            ("PGDB_PREVIEW_POOL_MAX", "0"),
        ];
        for (name, value) in known.iter().chain(env) {
            self.daemon.set_env(name, value);
        }
        self.daemon.remember(OPERATOR_PASSWORD);
        self.daemon.remember(APP_SECRET);
        self.daemon.stop().await;
        self.daemon.up(&[]).await;
        self
    }

    /// The variables by which `psql` reaches the server as its superuser.
    pub(crate) fn admin_env(&self) -> [(&'static str, String); 4] {
        [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.admin.clone()),
            ("PGPASSWORD", self.password.clone()),
        ]
    }

    /// The seed's sections 1 and 7, as an administrator would do them.
    async fn prepare_server(&self) {
        let password = OPERATOR_PASSWORD.replace('\'', "''");
        self.admin(&format!(
            "CREATE ROLE zane_operator LOGIN CREATEDB CREATEROLE PASSWORD '{password}';
             GRANT pg_signal_backend TO zane_operator;
             CREATE ROLE medusa_dev LOGIN PASSWORD 'dev';"
        ))
        .await;
        self.admin("CREATE DATABASE template_medusa OWNER zane_operator").await;
        sql::run(&self.url("zane_operator", OPERATOR_PASSWORD, "template_medusa"), TEMPLATE).await;
    }

    /// A URL of the server.
    pub(crate) fn url(&self, user: &str, password: &str, db: &str) -> String {
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("postgres://{user}:{encoded}@127.0.0.1:{}/{db}?sslmode={}", self.port, self.sslmode)
    }

    /// The operator's URL.
    pub(crate) fn operator_url(&self, db: &str) -> String {
        self.url("zane_operator", OPERATOR_PASSWORD, db)
    }

    /// The superuser's URL.
    pub(crate) fn admin_url(&self, db: &str) -> String {
        self.url(&self.admin, &self.password, db)
    }

    /// Runs statements as the superuser.
    pub(crate) async fn admin(&self, statements: &str) -> String {
        sql::run(&self.admin_url("postgres"), statements).await
    }

    /// An ensure that has to succeed.
    pub(crate) async fn ensure(&self, number: u64) -> Value {
        let answer = self.daemon.post("/v1/preview-db/ensure", &json!({ "pr_number": number })).await.expect(200);
        self.daemon.remember(answer["app_password"].as_str().expect("a password"));
        answer
    }

    /// A delete that has to succeed.
    pub(crate) async fn delete(&self, number: u64) -> Value {
        self.daemon.delete(&format!("/v1/preview-db/{number}")).await.expect(200)
    }

    /// The URL of a preview's role, as an ensure has answered.
    pub(crate) fn app_url(&self, ensured: &Value) -> String {
        let text = |field: &str| ensured[field].as_str().expect(field);
        self.url(text("app_user"), text("app_password"), text("db_name"))
    }

    /// What the server has logged.
    pub(crate) async fn server_log(&self) -> String {
        let answer = self.daemon.get(&format!("/v1/db/{SERVER}/logs?lines=100000")).await;
        assert_eq!(answer.status, 200);
        String::from_utf8_lossy(&answer.bytes).into_owned()
    }

    /// Waits until the pool holds this many, with the passwords of exactly these numbers.
    pub(crate) async fn wait_pool(&self, numbers: &[u64]) -> Value {
        let look = || async {
            let previews = self.daemon.get("/v1/previews").await.expect(200);
            let pool = previews["pools"].get(0)?.clone();
            let mut found: Vec<u64> = pool["numbers"].as_array()?.iter().filter_map(Value::as_u64).collect();
            found.sort_unstable();
            (found == numbers && pool["making"] == 0 && pool["ready"] == numbers.len()).then_some(pool)
        };
        wait::until(Duration::from_secs(30), &format!("a pool for {numbers:?}"), look).await
    }

    /// Databases and roles that begin as previews do, separated by spaces.
    pub(crate) async fn leftovers(&self) -> String {
        self.admin(
            "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
                 SELECT datname AS name FROM pg_database WHERE datname LIKE 'medusa\\_pr\\_%'
                 UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'medusa\\_pr\\_%') all_names",
        )
        .await
    }
}
