//! A client of the daemon's HTTP API that remembers every secret it is handed.

use crate::wait;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an operation may take until it has ended, even after a crash.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(30);

/// A client with a token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// A dump, or garbage.
    Bytes(Vec<u8>),
}

/// What the daemon answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body as it came.
    pub bytes: Vec<u8>,
    /// Its body as JSON; null when it is not.
    pub json: Value,
}

impl Answer {
    /// The body of an answer that has to have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "the daemon answered {}: {text}", self.status);
        self.json
    }

    /// The code of an error with this status, whose body has to be of the contract's form.
    #[track_caller]
    pub fn refused(&self, status: u16) -> &str {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "the daemon answered {}: {text}", self.status);
        let code = self.json["error"].as_str().unwrap_or_default();
        let snake = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(!code.is_empty() && snake(code), "no code in {text}");
        assert!(!self.message().is_empty(), "no message in {text}");
        assert_eq!(self.json["request_id"].as_str(), self.headers.get("x-request-id").map(String::as_str), "{text}");
        code
    }

    /// The sentence of an error.
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}

impl Api {
    /// A client of the daemon at a port of this machine.
    pub fn new(port: u16, token: &str) -> Self {
        // Whoever asks first installs it; all of a process use the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(120)).build().expect("build an HTTP client");
        let seen = Arc::new(Mutex::new(BTreeSet::from([token.to_owned()])));
        Self { client, base: format!("http://127.0.0.1:{port}"), token: token.to_owned(), seen }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        self.remember(token);
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Every password and token that was seen.
    pub fn secrets(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a secret that must turn up nowhere.
    pub fn remember(&self, secret: &str) {
        if !secret.is_empty() {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
        }
    }

    /// A request that may fail on its way, as one does when the daemon is killed meanwhile.
    pub async fn try_send(&self, method: Method, path: &str, body: Body) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        request = match body {
            Body::None => request,
            Body::Json(json) => request.header("content-type", "application/json").body(json.to_string()),
            Body::Bytes(bytes) => request.header("content-type", "application/octet-stream").body(bytes),
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let header = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), header(value))).collect();
        let bytes = response.bytes().await?.to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        self.remember_all(&json);
        Ok(Answer { status, headers, bytes, json })
    }

    /// A request that has to be answered, whatever the answer is.
    pub async fn send(&self, method: Method, path: &str, body: Body) -> Answer {
        let sent = self.try_send(method.clone(), path, body).await;
        sent.unwrap_or_else(|error| panic!("{method} {path} was not answered: {error:?}"))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Body::Json(body.clone())).await
    }

    /// `POST` without a body.
    pub async fn poke(&self, path: &str) -> Answer {
        self.send(Method::POST, path, Body::None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::None).await
    }

    /// Deploys and waits for it.
    pub async fn deploy(&self, request: Value) -> Value {
        self.post("/v1/deploy", &request).await.expect(200)
    }

    /// Deploys with nothing but a name.
    pub async fn deploy_named(&self, name: &str) -> Value {
        self.deploy(serde_json::json!({ "name": name })).await
    }

    /// Destroys and waits for it.
    pub async fn destroy(&self, name: &str) -> Value {
        self.delete(&format!("/v1/db/{name}")).await.expect(200)
    }

    /// Every instance as it stands.
    pub async fn status(&self) -> Vec<Value> {
        let body = self.get("/v1/status").await.expect(200);
        body["items"].as_array().expect("items is an array").clone()
    }

    /// One instance as it stands.
    pub async fn item(&self, name: &str) -> Value {
        self.get(&format!("/v1/db/{name}")).await.expect(200)
    }

    /// Waits until an instance is in a state, and gives it back.
    pub async fn wait_state(&self, name: &str, state: &str) -> Value {
        let look = || async move { Some(self.item(name).await).filter(|item| item["state"] == state) };
        wait::until(OPERATION_LIMIT, &format!("{name} to be {state}"), look).await
    }

    /// Waits until a step of an operation is at work.
    pub async fn wait_step(&self, id: &str, step: &str) {
        let path = format!("/v1/operations/{id}");
        let look = || async {
            let operation = self.get(&path).await.expect(200);
            let running = |found: &Value| found["name"] == step && found["state"] == "running";
            operation["steps"].as_array().expect("steps").iter().any(running).then_some(())
        };
        wait::until(OPERATION_LIMIT, &format!("operation {id} to be in {step}"), look).await;
    }

    /// Waits until an operation has ended, and gives it back.
    pub async fn wait_operation(&self, id: &str) -> Value {
        let path = format!("/v1/operations/{id}");
        let look = || async {
            let answer = self.try_send(Method::GET, &path, Body::None).await.ok()?;
            if answer.status != StatusCode::OK.as_u16() {
                return None;
            }
            let ended = ["succeeded", "failed", "undone"].iter().any(|state| answer.json["state"] == *state);
            ended.then_some(answer.json)
        };
        wait::until(OPERATION_LIMIT, &format!("operation {id} to end"), look).await
    }

    fn remember_all(&self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.remember_all(item)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(text) if name == "password" || name == "app_password" || name == "token" => {
                    self.remember(text)
                }
                other => self.remember_all(other),
            }),
            _ => {}
        }
    }
}
