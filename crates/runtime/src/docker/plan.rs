//! What is asked of the engine for one server. Pure.

use crate::docker::DockerConfig;
use crate::docker::files::{DIR, SOCKET_DIR};
use crate::docker::image::Image;
use crate::spec::{ADMIN_ROLE, ServerSpec, UNLABELLED};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding, RestartPolicy,
    RestartPolicyNameEnum, VolumeCreateRequest,
};
use serde::Serialize;
use std::collections::HashMap;

/// The port inside of the container.
pub(crate) const PORT: u16 = 5432;
/// Which daemon made it.
pub(crate) const LABEL_DAEMON: &str = "pgdb.daemon";
/// Our identifier of the server.
pub(crate) const LABEL_ID: &str = "pgdb.id";
/// Which data it is: the system identifier that was drawn for it, which stays with it when it is kept and used again.
pub(crate) const LABEL_DATA: &str = "pgdb.data";
/// What the server is called.
const LABEL_NAME: &str = "pgdb.name";
/// PostgreSQL major.
pub(crate) const LABEL_MAJOR: &str = "pgdb.major";
/// There if connections have to be encrypted.
pub(crate) const LABEL_TLS: &str = "pgdb.tls";
/// `max_connections`.
pub(crate) const LABEL_CONNECTIONS: &str = "pgdb.max-connections";
/// A digest of what the container was made of: another one means that it has to be made anew.
pub(crate) const LABEL_PLAN: &str = "pgdb.plan";

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;
pub(crate) const MIB: i64 = 1 << 20;

/// A container as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    image: String,
    image_id: String,
    env: Vec<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    volume: String,
    mount: String,
    address: String,
    port: u16,
    memory_bytes: Option<i64>,
    nano_cpus: Option<i64>,
    shm_bytes: i64,
    network: Option<String>,
}

/// Plans the container of a server.
pub(crate) fn plan(spec: &ServerSpec, image: &Image, config: &DockerConfig) -> Plan {
    let own = [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")];
    let options = own.iter().flat_map(|(setting, file)| ["-c".to_owned(), format!("{setting}={DIR}/{file}")]);
    let command = ["postgres".to_owned()].into_iter().chain(options).collect();
    let run = ["/bin/sh".to_owned(), format!("{DIR}/run.sh")];
    Plan {
        name: container_name(spec, config),
        image: image.name.clone(),
        image_id: image.id.clone(),
        env: vec![
            format!("POSTGRES_USER={ADMIN_ROLE}"),
            // The entrypoint would make one of the role's name.
            "POSTGRES_DB=postgres".to_owned(),
            format!("POSTGRES_PASSWORD_FILE={DIR}/password"),
            // Made durable as a whole when the server runs.
            "POSTGRES_INITDB_ARGS=--no-sync --encoding=UTF8 --locale=C.UTF-8 --data-checksums".to_owned(),
        ],
        entrypoint: run.into_iter().chain(image.entrypoint.iter().cloned()).collect(),
        command,
        volume: spec.volume.clone(),
        mount: image.mount.clone(),
        // Empty for all addresses: podman takes 0.0.0.0 for an address that packets are sent to.
        address: if spec.listen.is_unspecified() { String::new() } else { spec.listen.to_string() },
        port: spec.port,
        memory_bytes: spec.memory_mb.and_then(|mb| i64::try_from(mb).ok()).map(|mb| mb.saturating_mul(MIB)),
        nano_cpus: config.cpus.map(|cpus| (cpus * SECOND as f64) as i64),
        shm_bytes: i64::try_from(config.shm_mb).unwrap_or(i64::MAX).saturating_mul(MIB),
        network: config.network.clone(),
    }
}

/// The name of a server's container.
pub(crate) fn container_name(spec: &ServerSpec, config: &DockerConfig) -> String {
    format!("{}{}", config.prefix, spec.name)
}

impl Plan {
    /// Differs when anything that a container cannot change differs.
    pub(crate) fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        format!("{:08x}-{}", crc32c::crc32c(&text), text.len())
    }

    /// What the engine is sent.
    pub(crate) fn body(&self, spec: &ServerSpec, config: &DockerConfig) -> ContainerCreateBody {
        let port = format!("{PORT}/tcp");
        let binding = PortBinding { host_ip: Some(self.address.clone()), host_port: Some(self.port.to_string()) };
        let mut labels = labels(spec, config);
        labels.insert(LABEL_PLAN.to_owned(), self.digest());
        labels.insert(LABEL_CONNECTIONS.to_owned(), spec.settings.max_connections.to_string());
        if spec.tls.is_some() {
            labels.insert(LABEL_TLS.to_owned(), "true".to_owned());
        }
        let log = [("max-size", "10m"), ("max-file", "3")];
        let log = log.map(|(option, value)| (option.to_owned(), value.to_owned()));
        let host = HostConfig {
            mounts: Some(vec![Mount {
                target: Some(self.mount.clone()),
                source: Some(self.volume.clone()),
                typ: Some(MountType::VOLUME),
                ..Mount::default()
            }]),
            port_bindings: Some(HashMap::from([(port.clone(), Some(vec![binding]))])),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from(log)),
            }),
            memory: self.memory_bytes,
            nano_cpus: self.nano_cpus,
            shm_size: Some(self.shm_bytes),
            network_mode: self.network.clone(),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            env: Some(self.env.clone()),
            entrypoint: Some(self.entrypoint.clone()),
            cmd: Some(self.command.clone()),
            labels: Some(labels),
            exposed_ports: Some(vec![port]),
            healthcheck: Some(HealthConfig {
                // For people and other tools: we look ourselves, and see more than twice a minute.
                test: Some(["CMD", "pg_isready", "-q", "-h", SOCKET_DIR].map(str::to_owned).to_vec()),
                interval: Some(30 * SECOND),
                timeout: Some(5 * SECOND),
                retries: Some(3),
                start_period: Some(60 * SECOND),
                start_interval: None,
            }),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }
}

/// The volume of a server. With `size`, an option and its value, the driver is asked to hold it to that.
pub(crate) fn volume(spec: &ServerSpec, config: &DockerConfig, size: Option<(&str, u32)>) -> VolumeCreateRequest {
    let options: HashMap<String, String> =
        size.into_iter().map(|(option, gigabytes)| (option.to_owned(), format!("{gigabytes}G"))).collect();
    VolumeCreateRequest {
        name: Some(spec.volume.clone()),
        driver: config.volume_driver.clone(),
        driver_opts: (!options.is_empty()).then_some(options),
        labels: Some(labels(spec, config)),
        cluster_volume_spec: None,
    }
}

fn data(spec: &ServerSpec) -> String {
    format!("{:016x}", spec.system_identifier)
}

/// Whether one of our daemons made what has these labels.
pub(crate) fn is_labelled(labels: &HashMap<String, String>) -> bool {
    labels.contains_key(LABEL_DAEMON)
}

/// Whether a volume with these labels holds the data of a server. That of the original daemon has none.
pub(crate) fn is_data_of(spec: &ServerSpec, labels: &HashMap<String, String>) -> bool {
    match labels.get(LABEL_DATA) {
        Some(label) => *label == data(spec),
        None => spec.system_identifier == UNLABELLED && !is_labelled(labels),
    }
}

fn labels(spec: &ServerSpec, config: &DockerConfig) -> HashMap<String, String> {
    let labels = [
        (LABEL_DAEMON, config.daemon.clone()),
        (LABEL_ID, spec.id.clone()),
        (LABEL_NAME, spec.name.clone()),
        (LABEL_MAJOR, spec.major.to_string()),
        (LABEL_DATA, data(spec)),
    ];
    labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}
