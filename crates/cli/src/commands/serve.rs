//! `pgdb serve`.

mod docker;
mod previews;

use crate::args::by_name_alone;
use clap::Args;
use pgdb_core::ports::PortRange;
use pgdb_server::config::{EnvSecrets, LogFormat, Options};
use std::path::PathBuf;

/// Run the daemon in this terminal.
#[derive(Debug, Args)]
#[command(
    mut_args = by_name_alone,
    after_help = "Secrets come from the environment or from files, never from flags: PGDB_TOKEN, API_AUTH_TOKEN, \
                        INTERNAL_API_KEY, PGDB_MASTER_KEY, PGPASSWORD, DB_PREVIEW_APP_PASSWORD_SECRET, \
                        PGDB_GITHUB_WEBHOOK_SECRET.\nWithout a token one is made in DATA_DIR/token.\n\n\
                        The databases go on when the daemon ends, and the next one finds them; `pgdb down` ends both."
)]
pub(crate) struct Serve {
    /// ADDRESS:PORT, or :PORT for every address.
    #[arg(long, env = "PGDB_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// The port on every address, where --listen is not given.
    #[arg(long, env = "PORT")]
    port: Option<u16>,
    /// Where everything is kept.
    #[arg(long, env = "PGDB_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The host that clients of the databases connect to. Without it they listen on this machine alone.
    #[arg(long, env = "PGDB_PUBLIC_HOST", value_name = "HOST")]
    public_host: Option<String>,
    /// The ports of the databases.
    #[arg(long, env = "PGDB_PORT_RANGE", value_name = "FIRST-LAST")]
    port_range: Option<PortRange>,
    /// A folder with PostgreSQL installations, MAJOR/bin, preferred to the system's.
    #[arg(long, env = "PGDB_ENGINES_DIR", value_name = "DIR")]
    engines_dir: Option<PathBuf>,
    /// What databases run on when a deploy does not say: process (the default) or docker.
    #[arg(long, env = "PGDB_RUNTIME")]
    runtime: Option<String>,
    /// The user that PostgreSQL runs as when the daemon is root.
    #[arg(long, env = "PGDB_RUN_AS", value_name = "USER")]
    run_as: Option<String>,
    /// Certificate chain of the API, PEM.
    #[arg(long, env = "PGDB_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "PGDB_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How the log is written: text (the default on a terminal) or json.
    #[arg(long, env = "PGDB_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace, or a filter such as info,pgdb_server=debug.
    #[arg(long, env = "PGDB_LOG", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Do not serve /metrics.
    #[arg(long, env = "PGDB_NO_METRICS")]
    no_metrics: bool,
    /// A further address to serve, such as :9000; can be given more than once.
    #[arg(long = "extra-listen", env = "PGDB_EXTRA_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    extra_listeners: Option<Vec<String>>,
    /// A TOML file with any of these settings; flags and the environment go before it.
    #[arg(long, env = "PGDB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    docker: docker::DockerArgs,
    #[command(flatten)]
    previews: previews::PreviewArgs,
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it is json or text".to_owned()),
    }
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = Options {
            listen: self.listen,
            port: self.port,
            data_dir: self.data_dir,
            public_host: self.public_host,
            port_range: self.port_range,
            engines_dir: self.engines_dir,
            runtime: self.runtime,
            run_as: self.run_as,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            log_format: self.log_format,
            log_level: self.log_level,
            metrics: self.no_metrics.then_some(false),
            config: self.config,
            extra_listeners: self.extra_listeners,
            docker: self.docker.into(),
            previews: self.previews.into(),
        };
        pgdb_server::install_crypto();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(pgdb_server::run(options, EnvSecrets::from_env()))
    }
}
