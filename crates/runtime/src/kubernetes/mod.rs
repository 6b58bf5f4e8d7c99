//! Kubernetes' API, as far as we use it.

pub mod configmap;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the API server is found, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a pod: the environment and the token that every pod is given.
    InCluster,
    /// The current context of a kubeconfig; without a path that of `KUBECONFIG`, or `~/.kube/config`.
    Kubeconfig(Option<PathBuf>),
}

/// Why no client could be made. Says what was tried; the reason is its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum AccessError {
    /// The pod has no token, or the environment does not name the server.
    #[error("no access to the Kubernetes API as a pod")]
    InCluster(#[source] kube::config::InClusterError),
    /// The file cannot be read, or lacks something.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Its certificates cannot be used.
    #[error("no client for the Kubernetes API")]
    Client(#[source] kube::Error),
}

/// Makes a client. Nothing is sent yet. `silence` is how long the server may send nothing before the connection counts
/// as lost.
async fn client(access: &Access, silence: Duration) -> Result<Client, AccessError> {
    let options = KubeConfigOptions::default();
    let mut config = match access {
        Access::InCluster => Config::incluster().map_err(AccessError::InCluster)?,
        Access::Kubeconfig(None) => Config::from_kubeconfig(&options).await.map_err(AccessError::Kubeconfig)?,
        Access::Kubeconfig(Some(path)) => {
            let file = Kubeconfig::read_from(path).map_err(AccessError::Kubeconfig)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(AccessError::Kubeconfig)?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    // The client's own retries are silent and may pause for minutes; whoever asks here tries again himself, and says so.
    config.default_retry = false;
    Client::try_from(config).map_err(AccessError::Client)
}
