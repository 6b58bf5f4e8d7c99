//! What steps and reconcilers act through: rows, runtimes, sealed secrets, and connections to the servers.

use super::record::{self, InstanceRecord};
use crate::ca::Ca;
use crate::operations::StepError;
use crate::problem::{Problem, ProblemKind};
use crate::secrets::Sealer;
use crate::store::Store;
use pgdb_core::instance::{InstanceState, RuntimeKind};
use pgdb_core::ports::PortRange;
use pgdb_core::random::{self, Entropy};
use pgdb_core::sizing::{Machine, plan_settings};
use pgdb_core::time::Clock;
use pgdb_pg::connect::{Client, Target, TlsMode, connect};
use pgdb_pg::error::PgError;
use pgdb_pg::scram;
use pgdb_runtime::spec::{ADMIN_ROLE, AdminTarget, ServerSpec, TlsFiles};
use pgdb_runtime::{ClientPrograms, Runtime, RuntimeError};
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// How long a server that accepts connections may take to answer us.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The runtimes of this daemon.
pub type Runtimes = BTreeMap<RuntimeKind, Arc<dyn Runtime>>;

/// What instances need of the configuration.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// The host that clients are told, when one is configured; then servers listen on all addresses.
    pub public_host: Option<String>,
    /// The ports to give out.
    pub port_range: PortRange,
    /// The runtime of a deploy that names none.
    pub default_runtime: RuntimeKind,
    /// What the machine has.
    pub machine: Machine,
}

/// Everything that acts on instances shares this.
pub struct World {
    /// Our state.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Seals passwords.
    pub sealer: Arc<Sealer>,
    /// Signs certificates of servers.
    pub ca: Arc<Ca>,
    /// What instances run on.
    pub runtimes: Runtimes,
    /// The client programs of this machine.
    pub clients: Arc<dyn ClientPrograms>,
    /// Configuration.
    pub config: WorldConfig,
    locks: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl World {
    /// Puts the parts together.
    pub fn new(
        store: Store,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        sealer: Arc<Sealer>,
        ca: Arc<Ca>,
        (runtimes, clients): (Runtimes, Arc<dyn ClientPrograms>),
        config: WorldConfig,
    ) -> Self {
        Self { store, clock, entropy, sealer, ca, runtimes, clients, config, locks: Mutex::default() }
    }

    /// One instance by its name, or 404.
    pub async fn by_name(&self, name: &str) -> Result<InstanceRecord, Problem> {
        let wanted = name.to_owned();
        let found = self.store.read(move |connection| record::by_name(connection, &wanted)).await?;
        found.ok_or_else(|| not_found(name))
    }

    /// One instance by its id.
    pub async fn by_id(&self, id: &str) -> Result<Option<InstanceRecord>, Problem> {
        let wanted = id.to_owned();
        self.store.read(move |connection| record::by_id(connection, &wanted)).await
    }

    /// Held while somebody acts on the server of an instance, so that a reconciler never works against an operation.
    pub async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        self.lock_of(id).lock_owned().await
    }

    /// The same without waiting.
    pub fn try_lock(&self, id: &str) -> Option<OwnedMutexGuard<()>> {
        self.lock_of(id).try_lock_owned().ok()
    }

    fn lock_of(&self, id: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Locks of instances that are gone would pile up; nobody holds those that only the map knows.
        if locks.len() > 2048 {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(id.to_owned()).or_default())
    }

    /// The runtime of an instance.
    pub fn runtime(&self, kind: RuntimeKind) -> Result<&Arc<dyn Runtime>, Problem> {
        self.runtimes.get(&kind).ok_or_else(|| {
            let have: Vec<&str> = self.runtimes.keys().map(|kind| kind.as_str()).collect();
            let message = format!("this daemon has no runtime '{kind}'; it has: {}", have.join(", "));
            Problem::invalid("runtime_unavailable", message)
        })
    }

    /// The address that new servers listen on: loopback, unless clients are told a public host.
    pub fn listen_address(&self) -> IpAddr {
        if self.config.public_host.is_some() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv4Addr::LOCALHOST.into() }
    }

    /// What the runtime is told of an instance.
    pub fn spec(&self, instance: &InstanceRecord) -> Result<ServerSpec, Problem> {
        let tls = if instance.tls { Some(self.certificate(instance)?) } else { None };
        Ok(ServerSpec {
            id: instance.id.clone(),
            name: instance.name.clone(),
            volume: instance.volume.clone(),
            major: instance.major,
            listen: instance.listen,
            port: instance.port,
            settings: plan_settings(self.config.machine, &instance.settings),
            tls,
            system_identifier: instance.system_identifier,
            size_gb: instance.size_gb,
            memory_mb: instance.settings.memory_mb,
            // Its data is made while it is being deployed, and never again.
            admin_verifier: match instance.state {
                InstanceState::Creating => self.admin_password(instance)?.as_ref().map(scram::verifier),
                _ => None,
            },
            container: instance.container.clone(),
        })
    }

    /// The password of our administrator on an instance's server, where there is one.
    fn admin_password(&self, instance: &InstanceRecord) -> Result<Option<SecretString>, Problem> {
        let sealed = instance.admin_password.as_deref();
        let aad = record::admin_password_aad(&instance.id);
        sealed.map(|sealed| self.sealer.open_sealed(&aad, sealed)).transpose()
    }

    /// A password for our administrator, sealed for an instance.
    pub fn new_admin_password(&self, id: &str) -> Result<Vec<u8>, Problem> {
        self.sealer.seal(&*self.entropy, &record::admin_password_aad(id), &random::secret(&*self.entropy))
    }

    fn certificate(&self, instance: &InstanceRecord) -> Result<TlsFiles, Problem> {
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        hosts.extend(self.config.public_host.clone());
        if !instance.listen.is_unspecified() {
            hosts.push(instance.listen.to_string());
        }
        hosts.dedup();
        let (certificate_pem, key_pem) = self.ca.issue(&hosts, self.clock.now(), &*self.entropy)?;
        Ok(TlsFiles { certificate_pem, key_pem })
    }

    /// The valid password of an instance's role.
    pub fn password(&self, instance: &InstanceRecord) -> Result<SecretString, Problem> {
        self.sealer.open_sealed(&instance.password_aad(), &instance.password)
    }

    /// A new password, sealed for an instance.
    pub fn new_password(&self, id: &str) -> Result<Vec<u8>, Problem> {
        self.sealer.seal(&*self.entropy, &record::password_aad(id), &random::secret(&*self.entropy))
    }

    /// Connects as our administrator to a database of an instance's server. A server that has ended is started: while
    /// an operation is at work nobody else does.
    pub async fn admin(&self, instance: &InstanceRecord, db: &str) -> Result<Client, StepError> {
        match self.connect_admin(instance, db).await {
            Err(error) if error.passing => {
                let spec = self.spec(instance)?;
                self.runtime(instance.runtime)?.start(&spec).await.map_err(runtime_step)?;
                self.connect_admin(instance, db).await
            }
            outcome => outcome,
        }
    }

    async fn connect_admin(&self, instance: &InstanceRecord, db: &str) -> Result<Client, StepError> {
        let spec = self.spec(instance)?;
        match self.runtime(instance.runtime)?.admin_target(&spec) {
            AdminTarget::Socket { dir, port } => {
                let target = Target::Socket { dir, port };
                connect(&target, ADMIN_ROLE, None, db, ADMIN_TIMEOUT).await.map_err(pg)
            }
            AdminTarget::Tcp { host, port } => {
                let tls = if instance.tls { TlsMode::Require } else { TlsMode::Disable };
                let target = Target::Tcp { host, port, tls };
                if let Some(password) = self.admin_password(instance)? {
                    return connect(&target, ADMIN_ROLE, Some(&password), db, ADMIN_TIMEOUT).await.map_err(pg);
                }
                // Without an administrator of ours the role itself is one: the original daemon made it so. While its
                // password is being changed it has the old one or the next.
                let log_in = |password: SecretString| {
                    let target = &target;
                    async move { connect(target, &instance.user, Some(&password), db, ADMIN_TIMEOUT).await }
                };
                match (log_in(self.password(instance)?).await, &instance.next_password) {
                    (Err(PgError::AuthenticationRefused { .. }), Some(next)) => {
                        log_in(self.sealer.open_sealed(&instance.password_aad(), next)?).await.map_err(pg)
                    }
                    (outcome, _) => outcome.map_err(pg),
                }
            }
        }
    }

    /// Where clients of an instance connect to, from this machine.
    pub fn client_target(&self, instance: &InstanceRecord) -> Result<Target, Problem> {
        let (host, port) = self.runtime(instance.runtime)?.address(&self.spec(instance)?);
        let tls = if instance.tls { TlsMode::VerifyCa(self.ca.pem().to_owned()) } else { TlsMode::Disable };
        Ok(Target::Tcp { host, port, tls })
    }

    /// Connects as a client does: over TCP, with the role's password.
    pub async fn login(&self, instance: &InstanceRecord, password: &SecretString) -> Result<Client, StepError> {
        let target = self.client_target(instance)?;
        connect(&target, &instance.user, Some(password), &instance.db, ADMIN_TIMEOUT).await.map_err(pg)
    }
}

/// The 404 of an unknown name.
pub(crate) fn not_found(name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    Problem::not_found("database_not_found", format!("there is no database called '{shown}'; `pgdb status` shows all"))
}

/// A runtime's error as a problem: the caller's fault, something passing, or upstream's.
pub(crate) fn runtime_problem(error: &RuntimeError) -> Problem {
    let message = with_sources(error);
    match error {
        RuntimeError::EngineMissing { .. } | RuntimeError::ClientsMissing { .. } => {
            Problem::invalid("engine_missing", message)
        }
        RuntimeError::PortTaken { .. } => Problem::conflict("port_taken", message),
        RuntimeError::DiskFull { .. } => Problem::new(ProblemKind::Busy, "disk_full", message),
        RuntimeError::NotOurs { .. } | RuntimeError::InTheWay { .. } => Problem::conflict("not_ours", message),
        RuntimeError::ImageMissing { .. } => Problem::invalid("image_missing", message),
        RuntimeError::ContainersUnavailable { .. } => Problem::upstream("docker_unavailable", message),
        RuntimeError::Containers { .. } => Problem::upstream("docker_failed", message),
        RuntimeError::ServerFailed { log, .. } | RuntimeError::NotReady { log, .. } => {
            let log = if log.is_empty() { String::new() } else { format!("; its log ends with: {}", log.join(" | ")) };
            Problem::upstream("server_failed", message + &log)
        }
        RuntimeError::ToolFailed { .. } => Problem::upstream("tool_failed", message),
        RuntimeError::Unsupported(_) => Problem::invalid("unsupported", message),
        RuntimeError::Io { .. } => Problem::upstream("runtime_failed", message),
    }
}

/// A runtime's error inside a step. A full disk or a missing engine does not mend itself within seconds.
pub(crate) fn runtime_step(error: RuntimeError) -> StepError {
    let problem = runtime_problem(&error);
    let passing = matches!(
        error,
        RuntimeError::Io { .. }
            | RuntimeError::ServerFailed { .. }
            | RuntimeError::ContainersUnavailable { .. }
            | RuntimeError::Containers { .. }
    );
    StepError { code: problem.code.to_owned(), message: problem.message, passing }
}

/// PostgreSQL's error inside a step.
pub(crate) fn pg(error: PgError) -> StepError {
    let message = with_sources(&error);
    // The second is what a session says that cannot write its cache of the catalog.
    if ["SQLSTATE 53100", "could not write init file"].iter().any(|text| message.contains(text)) {
        let advice = "no space left for the server; free some on the file system of PGDB_DATA_DIR";
        return StepError::lasting("disk_full", format!("{advice} ({message})"));
    }
    StepError { code: "postgres_failed".to_owned(), message, passing: error.is_transient() }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    message
}
