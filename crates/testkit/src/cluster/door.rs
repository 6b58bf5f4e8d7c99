//! A door before the API server, at which a watch ends after a second, well and as asked, instead of after the minute that
//! the watcher asks for. So a test need not wait for a minute until the watcher goes on from the version it knows.

use super::Cluster;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use reqwest::{Client, StatusCode};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Passes requests on, and notes the answers. Dropping it closes it.
#[derive(Debug)]
pub struct Door {
    /// For the watcher.
    pub kubeconfig: PathBuf,
    heard: Arc<Mutex<Vec<u8>>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Shared {
    client: Client,
    url: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Door {
    /// Opens a door to an API server, for somebody with a token.
    pub async fn open(cluster: &Cluster, token: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let kubeconfig = cluster.kubeconfig_for(&json!({"server": url}), token);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { client: cluster.client.clone(), url: cluster.url(), heard: Arc::clone(&heard) };
        let router = Router::new().fallback(pass).with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("the door is open") });
        Self { kubeconfig, heard, server }
    }

    /// How often the API server has said this.
    pub fn heard(&self, word: &str) -> usize {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&heard).matches(word).count()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Shared>, request: Request) -> Response {
    let wish = request.uri().to_string().replace("timeoutSeconds=60", "timeoutSeconds=1");
    let mut passed = shared.client.request(request.method().clone(), format!("{}{wish}", shared.url));
    if let Some(token) = request.headers().get(header::AUTHORIZATION) {
        passed = passed.header(header::AUTHORIZATION, token);
    }
    match passed.send().await {
        Ok(answer) => {
            let status = answer.status();
            let body = answer.bytes_stream().inspect(move |piece| {
                let piece = piece.as_deref().unwrap_or_default();
                shared.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
            });
            (status, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
