//! `pgdb migrate watch`.

use super::connection::UrlArgs;
use crate::args::by_name_alone;
use crate::commands::serve::log_format;
use crate::error::Usage;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use pgdb_server::config::LogFormat;
use pgdb_server::migrations::settings::{Options, Origin, Surroundings};
use pgdb_server::{logs, migrations};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Everything of ours; of the Kubernetes client only what we do not tell ourselves.
const LOG: &str = "info,kube_runtime=error,kube_client=error";

/// Keep a database up to date with a ConfigMap or a folder, for as long as this runs: the sidecar.
#[derive(Debug, Args)]
#[command(
    mut_args = by_name_alone,
    after_help = "Where migrations come from, the first that has any: a ConfigMap through the Kubernetes API, the same \
                        mounted, a folder SCHEMA/NNN_name.sql.\nWithout a URL the database is pact_mock_servers on this \
                        machine; it is made if there is none.\nThe health port answers /liveness, /readiness and /metrics. \
                        When everything is applied the log says so: All migrations applied."
)]
pub(crate) struct Watch {
    #[command(flatten)]
    url: UrlArgs,
    /// PostgreSQL's host, where no URL is given [default: localhost].
    #[arg(long, env = "POSTGRES_HOST", value_name = "HOST")]
    postgres_host: Option<String>,
    /// PostgreSQL's port, where no URL is given [default: 5432].
    #[arg(long, env = "POSTGRES_PORT", value_name = "PORT")]
    postgres_port: Option<String>,
    /// The ConfigMap's namespace [default: secret-manager-controller-pact-broker].
    #[arg(long, env = "NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// The ConfigMap's name [default: postgres-migrations].
    #[arg(long, env = "CONFIGMAP_NAME", value_name = "NAME")]
    configmap_name: Option<String>,
    /// Where the ConfigMap is mounted [default: /migrations-configmap].
    #[arg(long, env = "CONFIGMAP_PATH", value_name = "DIR")]
    configmap_path: Option<PathBuf>,
    /// The folder with a folder for each schema [default: /shared/postgres-migrations].
    #[arg(long, env = "MIGRATIONS_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port of /liveness, /readiness and /metrics [default: 1239].
    #[arg(long, env = "HEALTH_PORT", value_name = "PORT")]
    health_port: Option<String>,
    /// Where the Kubernetes API is; without it KUBECONFIG or the pod's own access.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Look only in the API, the mount or the folder; may be given several times.
    #[arg(long, value_enum, value_name = "PLACE")]
    only: Vec<Place>,
    /// How log lines look: text or json.
    #[arg(long, env = "PGDB_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or a filter.
    #[arg(long, env = "PGDB_LOG", value_name = "LEVEL", default_value = LOG)]
    log_level: String,
}

/// A place that migrations come from: a ConfigMap, through the Kubernetes API or mounted, or a folder with a folder for each
/// schema. With a doc comment for each of them the whole help would be in its long form.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Place {
    Api,
    Mount,
    Directory,
}

impl Watch {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        logs::start(&self.log_level, self.log_format.unwrap_or_default())
            .map_err(|error| Usage(format!("{error:#}")))?;
        pgdb_server::install_crypto();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let surroundings = Surroundings { in_cluster: set("KUBERNETES_SERVICE_HOST"), kubeconfig: set("KUBECONFIG") };
        let settings = self.options()?.resolve(surroundings).map_err(|error| Usage(error.to_string()))?;
        // The probes are answered whatever the migrations are busy with.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(cancel_when_told(stop.clone())?);
            migrations::watch::watch(settings, stop).await
        })
    }

    fn options(self) -> anyhow::Result<Options> {
        let database_url = self.url.url()?;
        let only = self.only.iter().map(|place| match place {
            Place::Api => Origin::Api,
            Place::Mount => Origin::Mount,
            Place::Directory => Origin::Directory,
        });
        Ok(Options {
            database_url: database_url.map(Into::into),
            postgres_host: self.postgres_host,
            postgres_port: self.postgres_port,
            namespace: self.namespace,
            configmap_name: self.configmap_name,
            configmap_path: self.configmap_path,
            migrations_dir: self.dir,
            health_port: self.health_port,
            kubeconfig: self.kubeconfig,
            only: only.collect(),
        })
    }
}

/// Cancels at SIGTERM or SIGINT. A process that is the first of its container gets neither unless it asks for them.
fn cancel_when_told(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
