//! Requests to the daemon, and its answers or refusals.

use crate::error::{Refused, Unreachable};
use crate::settings::Server;
use anyhow::Context;
use pgdb_api::errors::ErrorBody;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A client of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) server: Server,
    http: reqwest::Client,
    wait: Option<Duration>,
}

/// An answer that is either the result, or an operation that leads to it.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Done(T),
    Accepted(Box<pgdb_api::operations::Operation>),
}

impl Client {
    /// A client; `wait_timeout` seconds for each answer, 0 for as long as it takes.
    pub(crate) fn new(server: Server, wait_timeout: u64) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).no_proxy();
        if server.url.starts_with("https://") {
            pgdb_server::install_crypto();
            // Its certificate is for the name that others call it by, and perhaps of an authority of their own. Nothing
            // that is sent there leaves this machine.
            builder = builder.tls_danger_accept_invalid_certs(server.own);
        } else {
            // Reading the system's certificates would cost more than the whole request.
            builder = builder.tls_certs_only([]);
            pgdb_server::install_crypto();
        }
        let http = builder.build().context("could not make an HTTP client")?;
        let wait = (wait_timeout > 0).then(|| Duration::from_secs(wait_timeout));
        Ok(Self { server, http, wait })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server.url));
        match &self.server.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Sends a request and returns its answer if it is a success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match self.wait {
            Some(wait) => request.timeout(wait),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.explain(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.text().await.unwrap_or_default();
        Err(Refused { status, body: read_error(status, &text) }.into())
    }

    fn explain(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_timeout() && !error.is_connect() {
            return anyhow::anyhow!(
                "no answer within the time of --wait-timeout; what was asked for goes on, see `pgdb operations list`"
            );
        }
        let mut why = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(inner) = source {
            // The innermost cause is what a person can act on.
            why = inner.to_string();
            source = inner.source();
        }
        Unreachable { url: self.server.url.clone(), why }.into()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.send(self.request(Method::GET, path)).await?;
        read(response).await
    }

    pub(crate) async fn get_with<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> anyhow::Result<T> {
        let response = self.send(self.request(Method::GET, path).query(query)).await?;
        read(response).await
    }

    /// A GET whose answer is read as it comes. Never cut off by `--wait-timeout`.
    pub(crate) async fn stream(&self, path: &str, query: &impl Serialize) -> anyhow::Result<Response> {
        let unlimited = Self { wait: None, ..self.clone() };
        unlimited.send(unlimited.request(Method::GET, path).query(query)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        read(response).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        read(self.send(self.request(Method::PUT, path).json(body)).await?).await
    }

    pub(crate) async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(self.send(self.request(Method::POST, path)).await?).await
    }

    pub(crate) async fn post_stream<T: DeserializeOwned>(&self, path: &str, body: reqwest::Body) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path).header("content-type", "application/octet-stream").body(body);
        read(self.send(request).await?).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(self.send(self.request(Method::DELETE, path)).await?).await
    }

    /// Sends what starts an operation, without waiting if `follow`. A daemon that knows no operations answers with
    /// the result all the same.
    pub(crate) async fn start<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        follow: bool,
    ) -> anyhow::Result<Answer<T>> {
        let mut request = self.request(method, path);
        if follow {
            request = request.query(&[("wait", "false")]);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(Answer::Accepted(Box::new(read(response).await?)));
        }
        Ok(Answer::Done(read(response).await?))
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = response.text().await.context("the daemon's answer broke off")?;
    serde_json::from_str(&text).context("the daemon's answer makes no sense; is it really pgdb?")
}

/// The original daemon's errors have no message, and proxies answer in HTML.
fn read_error(status: u16, text: &str) -> ErrorBody {
    if let Ok(body) = serde_json::from_str::<ErrorBody>(text) {
        return body;
    }
    let plain: Option<String> = serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|value| Some(value.get("message").or_else(|| value.get("error"))?.as_str()?.to_owned()));
    let message = plain.unwrap_or_else(|| {
        let first = text.lines().next().unwrap_or_default().trim();
        let short: String = first.chars().take(200).collect();
        if short.is_empty() || short.starts_with('<') { format!("the server answered {status}") } else { short }
    });
    ErrorBody { error: "refused".to_owned(), message, request_id: String::new(), operation_id: None }
}

/// A path segment, percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // These two would be taken for folders.
    match out.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => out,
    }
}
