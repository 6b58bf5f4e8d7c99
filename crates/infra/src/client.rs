//! Requests to the provider, tried again when that can help.

use crate::error::Error;
use pgdb_core::infra::cloud::ApiError;
use pgdb_core::infra::retry::{Failure, pause_ms};
use pgdb_core::random::Entropy;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Where the API is, and how patient to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Such as `https://api.hetzner.cloud/v1`.
    pub endpoint: String,
    /// The project's token.
    pub token: SecretString,
    /// For one answer.
    pub request_timeout: Duration,
    /// Between two looks at something that is being done; the pauses between attempts grow from it.
    pub poll: Duration,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// For something that is being done.
    pub patience: Duration,
}

/// A client of the provider's API.
pub struct Client {
    pub(crate) settings: Settings,
    base: Url,
    http: reqwest::Client,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// The provider's refusal, as it is sent.
#[derive(Deserialize)]
struct Refusal {
    error: ApiError,
}

/// How one attempt ended.
enum Attempt {
    Done(Value),
    Silent(String),
    Refused { status: u16, error: ApiError },
}

impl Client {
    /// A client. The token only goes to an encrypted address, or to this machine. Needs the process's cryptography to
    /// be installed.
    pub fn new(settings: Settings, entropy: Arc<dyn Entropy>) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Usage(format!("HCLOUD_ENDPOINT '{}' {why}", settings.endpoint));
        let base = Url::parse(settings.endpoint.trim_end_matches('/')).map_err(|_| wrong("is not a URL"))?;
        let address = base.host_str().unwrap_or_default().trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let local = address.is_ok_and(|address| address.is_loopback()) || base.host_str() == Some("localhost");
        if base.scheme() != "https" && !(base.scheme() == "http" && local) {
            return Err(wrong("must begin with https://, for the token is sent there"));
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("pgdb/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.request_timeout.min(Duration::from_secs(10)))
            .timeout(settings.request_timeout)
            // The token is for this address alone.
            .redirect(reqwest::redirect::Policy::none());
        let builder = if local { builder.no_proxy().tls_certs_only([]) } else { builder };
        let http = builder.build().map_err(|error| Error::Tool(format!("could not make an HTTP client: {error}")))?;
        Ok(Self { settings, base, http, entropy })
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// Sends a request until it is answered for good. An empty answer is `null`.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        doing: &str,
    ) -> Result<Value, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ended = self.attempt(method.clone(), path, query, body).await;
            let failure = match &ended {
                Attempt::Done(value) => return Ok(value.clone()),
                Attempt::Silent(_) => Failure::Silent,
                Attempt::Refused { status, error } => Failure::Refused { status: *status, code: &error.code },
            };
            if failure.passes() && attempt < self.settings.attempts {
                tokio::time::sleep(self.pause(attempt)).await;
                continue;
            }
            let doing = doing.to_owned();
            return Err(match ended {
                Attempt::Refused { status, error } => {
                    Error::Refused { doing, status, code: error.code, message: error.message }
                }
                Attempt::Silent(why) => {
                    Error::Silent { doing, endpoint: self.base.to_string(), attempts: attempt, why }
                }
                Attempt::Done(_) => Error::Nonsense { doing, why: "an answer came twice".to_owned() },
            });
        }
    }

    fn pause(&self, attempt: u32) -> Duration {
        let mut chance = [0];
        self.entropy.fill(&mut chance);
        let base = u64::try_from(self.settings.poll.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(pause_ms(attempt, base, chance[0]))
    }

    async fn attempt(&self, method: Method, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Attempt {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let mut request = self.http.request(method, url).bearer_auth(self.settings.token.expose_secret()).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Attempt::Silent(innermost(&error)),
        };
        let status = response.status();
        let text = match response.text().await {
            Ok(text) => text,
            // Cut off in the middle: what was asked may have been done.
            Err(error) => return Attempt::Silent(innermost(&error)),
        };
        if status.is_success() {
            return match serde_json::from_str(if text.trim().is_empty() { "null" } else { &text }) {
                Ok(value) => Attempt::Done(value),
                Err(error) => Attempt::Silent(format!("the answer is not JSON: {error}")),
            };
        }
        let error = serde_json::from_str::<Refusal>(&text).map(|refusal| refusal.error);
        let error = error.unwrap_or_else(|_| ApiError {
            code: if status.as_u16() == 429 { "rate_limit_exceeded".to_owned() } else { "no_code".to_owned() },
            message: format!("HTTP status {status}"),
        });
        Attempt::Refused { status: status.as_u16(), error }
    }
}

/// The innermost cause is what a person can act on.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut why = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    why
}
