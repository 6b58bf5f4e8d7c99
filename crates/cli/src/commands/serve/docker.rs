//! The flags of `pgdb serve` about containers.

use clap::Args;
use pgdb_server::config::DockerOptions;
use std::path::PathBuf;

/// Where the container engine is, and what containers are given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Containers")]
pub(super) struct DockerArgs {
    /// Where the engine listens, Docker or podman: unix:///PATH, tcp://HOST:PORT or https://HOST:PORT [default:
    /// unix:///var/run/docker.sock].
    #[arg(id = "docker-host", long = "docker-host", env = "DOCKER_HOST", value_name = "URL")]
    host: Option<String>,
    /// The folder with ca.pem, cert.pem and key.pem for an engine behind TLS [default: ~/.docker].
    #[arg(id = "docker-cert-path", long = "docker-cert-path", env = "DOCKER_CERT_PATH", value_name = "DIR")]
    cert_path: Option<PathBuf>,
    /// Use TLS with tcp://; anything but an empty text.
    #[arg(id = "docker-tls-verify", long = "docker-tls-verify", env = "DOCKER_TLS_VERIFY", value_name = "1")]
    tls_verify: Option<String>,
    /// The image, with {major} in it [default: postgres:{major}].
    #[arg(id = "docker-image", long = "docker-image", env = "PGDB_DOCKER_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    /// When images are pulled: missing (the default), always or never.
    #[arg(id = "docker-pull", long = "docker-pull", env = "PGDB_DOCKER_PULL", value_name = "POLICY")]
    pull: Option<String>,
    /// The folder whose config.json has credentials of registries, as `docker login` writes it [default: ~/.docker].
    #[arg(id = "docker-config", long = "docker-config", env = "DOCKER_CONFIG", value_name = "DIR")]
    client_config: Option<PathBuf>,
    /// What the names of containers and volumes begin with; two daemons on one engine need two [default: pgdb-].
    #[arg(id = "docker-prefix", long = "docker-prefix", env = "PGDB_DOCKER_PREFIX", value_name = "PREFIX")]
    prefix: Option<String>,
    /// The network that containers join; the engine's default when left out.
    #[arg(id = "docker-network", long = "docker-network", env = "PGDB_DOCKER_NETWORK", value_name = "NETWORK")]
    network: Option<String>,
    /// Processors that each container may use, such as 1.5; all when left out.
    #[arg(id = "docker-cpus", long = "docker-cpus", env = "PGDB_DOCKER_CPUS", value_name = "N")]
    cpus: Option<f64>,
    /// Shared memory of each container in MiB [default: 256].
    #[arg(id = "docker-shm", long = "docker-shm", env = "PGDB_DOCKER_SHM_MB", value_name = "MB")]
    shm_mb: Option<u64>,
    /// The driver of volumes; the engine's default when left out.
    #[arg(
        id = "docker-volume-driver",
        long = "docker-volume-driver",
        env = "PGDB_DOCKER_VOLUME_DRIVER",
        value_name = "DRIVER"
    )]
    volume_driver: Option<String>,
    /// What that driver calls the option for a volume's size [default: size, and none with podman].
    #[arg(
        id = "docker-volume-size-option",
        long = "docker-volume-size-option",
        env = "PGDB_DOCKER_VOLUME_SIZE_OPTION",
        value_name = "OPTION"
    )]
    volume_size_option: Option<String>,
    /// The host by which this daemon reaches the databases' ports, where it is neither this machine nor the engine's.
    #[arg(
        id = "docker-connect-host",
        long = "docker-connect-host",
        env = "PGDB_DOCKER_CONNECT_HOST",
        value_name = "HOST"
    )]
    connect_host: Option<String>,
    /// How long a container's server may take to accept connections [default: 100].
    #[arg(
        id = "docker-start-timeout",
        long = "docker-start-timeout",
        env = "PGDB_DOCKER_START_TIMEOUT",
        value_name = "SECONDS"
    )]
    start_timeout_s: Option<u64>,
}

impl From<DockerArgs> for DockerOptions {
    fn from(args: DockerArgs) -> Self {
        Self {
            host: args.host,
            cert_path: args.cert_path,
            client_config: args.client_config,
            tls_verify: args.tls_verify,
            image: args.image,
            pull: args.pull,
            prefix: args.prefix,
            network: args.network,
            cpus: args.cpus,
            shm_mb: args.shm_mb,
            volume_driver: args.volume_driver,
            volume_size_option: args.volume_size_option,
            connect_host: args.connect_host,
            start_timeout_s: args.start_timeout_s,
        }
    }
}
