//! The servers that previews are made on: how to get in, and what must not happen there at the same time.

use super::world::PreviewWorld;
use crate::config::TargetConfig;
use crate::instances::InstanceRecord;
use crate::instances::world::pg;
use crate::operations::StepError;
use crate::problem::Problem;
use pgdb_core::instance::InstanceState;
use pgdb_pg::{Client, Target, connect};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{AcquireError, Mutex as AsyncMutex, Semaphore, SemaphorePermit};

/// How long a server may take to let us in.
const LOGIN: Duration = Duration::from_secs(10);
/// Sessions of the operator at the same time; more wait. They take from what the server has for everybody.
const SESSIONS: usize = 10;
/// Sessions that are kept for the next one who needs one.
const KEPT: usize = 8;
/// Logins that are begun at the same time to see whether a password was changed.
const CHALLENGES: usize = 8;

/// The target of the configured external server.
pub const EXTERNAL: &str = "external";

/// One server.
pub struct Server {
    /// [`EXTERNAL`], or the id of an instance.
    pub key: String,
    /// The instance's name.
    pub instance: Option<String>,
    sessions: Mutex<Vec<Client>>,
    at_once: Semaphore,
    /// Taken by who begins a login only to see what it is answered.
    pub challenges: Semaphore,
    /// Held while databases are copied; more at once only take each other's time.
    pub clones: Semaphore,
    /// Held while roles, databases or rights on them are changed: two sessions that change the same row of a shared
    /// catalog at once get "tuple concurrently updated". Taken before a session is, never after.
    pub catalog: AsyncMutex<()>,
}

/// A session of the operator. Give it back with [`Session::release`] when it is at rest; otherwise it is closed.
pub struct Session<'a> {
    client: Option<Client>,
    server: &'a Server,
    _permit: SemaphorePermit<'a>,
}

impl Deref for Session<'_> {
    type Target = Client;
    #[expect(clippy::expect_used, reason = "only `release` takes the client, and it takes the session with it")]
    fn deref(&self) -> &Client {
        self.client.as_ref().expect("a session has its client")
    }
}

impl Session<'_> {
    /// Keeps the session for the next one who needs one.
    pub fn release(mut self) {
        let Some(client) = self.client.take().filter(|client| !client.is_closed()) else { return };
        let mut sessions = self.server.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() < KEPT {
            sessions.push(client);
        }
    }
}

impl Server {
    pub(super) fn new(key: String, instance: Option<String>, clones: u32) -> Self {
        let clones = usize::try_from(clones).unwrap_or(1);
        Self {
            key,
            instance,
            sessions: Mutex::default(),
            at_once: Semaphore::new(SESSIONS),
            challenges: Semaphore::new(CHALLENGES),
            clones: Semaphore::new(clones),
            catalog: AsyncMutex::default(),
        }
    }

    /// A session that was kept, if there is one.
    fn kept(&self) -> Option<Client> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(client) = sessions.pop() {
            if !client.is_closed() {
                return Some(client);
            }
        }
        None
    }

    /// Closes every session that is kept.
    pub fn forget_sessions(&self) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PreviewWorld {
    /// A session of the operator in the database that it works from.
    pub async fn session<'a>(&self, server: &'a Server) -> Result<Session<'a>, StepError> {
        let permit = server.at_once.acquire().await.map_err(ending)?;
        let client = match server.kept() {
            Some(client) => client,
            None => self.connect(server, None).await?,
        };
        Ok(Session { client: Some(client), server, _permit: permit })
    }

    /// A new session of the operator in a database.
    pub async fn connect(&self, server: &Server, db: Option<&str>) -> Result<Client, StepError> {
        match (&self.config.target, &server.instance) {
            (_, Some(name)) => {
                let instance = self.running_instance(name, &server.key).await?;
                self.instances.admin(&instance, db.unwrap_or("postgres")).await
            }
            (TargetConfig::External(external), None) => {
                let target = external_target(external);
                let db = db.unwrap_or(&external.database);
                connect(&target, &external.user, self.operator_password.as_ref(), db, LOGIN).await.map_err(pg)
            }
            (TargetConfig::Instance(_), None) => {
                Err(StepError::lasting("preview_target_missing", "no external server is configured any more"))
            }
        }
    }

    async fn running_instance(&self, name: &str, id: &str) -> Result<InstanceRecord, StepError> {
        let instance = self.instances.by_id(id).await?.ok_or_else(|| {
            StepError::lasting("preview_target_missing", format!("the instance '{name}' that it was on is gone"))
        })?;
        match instance.state {
            InstanceState::Stopped => Err(StepError::lasting(
                "not_running",
                format!("the instance '{name}' is stopped; start it: `pgdb start {name}`"),
            )),
            InstanceState::Destroying => Err(StepError::lasting(
                "not_running",
                format!("the instance '{name}' is half destroyed; `pgdb destroy {name}` goes on with it"),
            )),
            _ => Ok(instance),
        }
    }

    /// Where the roles of previews log in, as this daemon reaches it.
    pub async fn client_target(&self, server: &Server) -> Result<Target, Problem> {
        if let Some(name) = &server.instance {
            let instance = self.instances.by_id(&server.key).await?;
            let instance = instance.ok_or_else(|| crate::instances::world::not_found(name))?;
            return self.instances.client_target(&instance);
        }
        match &self.config.target {
            TargetConfig::External(external) => Ok(external_target(external)),
            TargetConfig::Instance(name) => Err(Problem::internal(format!("{name} is not external"))),
        }
    }

    /// The server of a request: the one that is configured, or the instance that it names.
    pub async fn server(&self, on: Option<&str>) -> Result<Arc<Server>, Problem> {
        let name = match (on, &self.config.target) {
            (Some(name), _) => name,
            (None, TargetConfig::Instance(name)) => name,
            (None, TargetConfig::External(_)) => return Ok(self.known(EXTERNAL, None)),
        };
        let instance = self.instances.by_name(name).await?;
        Ok(self.known(&instance.id, Some(name)))
    }

    /// The server with a key. `None` where its instance is gone.
    pub async fn server_of(&self, key: &str) -> Result<Option<Arc<Server>>, Problem> {
        if key == EXTERNAL {
            return Ok(Some(self.known(EXTERNAL, None)));
        }
        let instance = self.instances.by_id(key).await?;
        Ok(instance.map(|instance| self.known(key, Some(&instance.name))))
    }

    fn known(&self, key: &str, instance: Option<&str>) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Server::new(key.to_owned(), instance.map(str::to_owned), self.config.clones));
        Arc::clone(servers.entry(key.to_owned()).or_insert_with(new))
    }
}

/// No semaphore of ours is ever closed.
pub fn ending(_: AcquireError) -> StepError {
    StepError::passing("internal", "the daemon is ending")
}

/// Where the server is that we were told of.
pub(super) fn external_target(external: &crate::config::ExternalServer) -> Target {
    if external.host.starts_with('/') {
        return Target::Socket { dir: external.host.clone().into(), port: external.port };
    }
    Target::Tcp { host: external.host.clone(), port: external.port, tls: external.tls.clone() }
}
