//! What is asked of instances: checked, and turned into operations.

use super::checks;
use super::record::{self, InstanceRecord};
use super::rendered::Rendered;
use super::steps::{DEPLOY, DESTROY, DeployInput, DestroyInput, OnInstance, RESTART, RESTORE, ROTATE_PASSWORD};
use super::steps::{RestoreInput, START, STOP};
use super::world::{World, not_found, runtime_problem};
use crate::operations::{Engine, NewOperation, Started};
use crate::previews::record as previews;
use crate::previews::templates;
use crate::problem::Problem;
use crate::templates::record as definitions;
use bytes::Bytes;
use pgdb_api::instances::{DeployRequest, Deployment, StatusItem};
use pgdb_core::id::InstanceId;
use pgdb_core::instance::{DesiredState, InstanceState, RequestedSettings, RuntimeKind};
use pgdb_core::random;
use pgdb_core::url::ConnectionUrl;
use pgdb_runtime::spec::{LogOptions, Tool, UNLABELLED};
use pgdb_runtime::{ByteStream, RunningTool, Runtime};
use rusqlite::Connection;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What instances can be asked. Cheap to clone.
#[derive(Clone)]
pub struct InstanceService {
    /// What it acts through.
    pub world: Arc<World>,
    engine: Engine,
    rendered: Arc<Rendered>,
}

/// What a client may see, and what it calls this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// The host name or address that instances are shown with.
    pub host: String,
    /// Whether passwords are shown.
    pub reveal: bool,
}

/// What a start, stop or restart is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Should run, and does.
    Start,
    /// Should not run, and does not.
    Stop,
    /// Runs anew, with its configuration written anew.
    Restart,
}

impl InstanceService {
    /// A service over these parts.
    pub fn new(world: Arc<World>, engine: Engine) -> Self {
        Self { world, engine, rendered: Arc::default() }
    }

    /// Begins a deploy. Returns the operation and the name.
    pub async fn start_deploy(&self, request: DeployRequest) -> Result<(Started, String), Problem> {
        let world = &self.world;
        let name = checks::name(&request, &*world.entropy)?.as_str().to_owned();
        checks::numbers(&request)?;
        let mut runtime = checks::runtime(&request, world.config.default_runtime)?;
        let volume = match &request.from_volume {
            Some(volume) => self.kept(volume, runtime).await?,
            None => None,
        };
        let of_the_original = request.from_volume.is_some() && volume.is_none();
        if let Some(volume) = &volume {
            runtime = volume.runtime;
        }
        let acts = Arc::clone(world.runtime(runtime)?);
        let major = self.major(&request, &*acts, volume.as_ref().map(|volume| volume.major)).await?;
        let id = InstanceId::generate(&*world.clock, &*world.entropy).to_string();
        let generated = |prefix: &str| format!("{prefix}{}", random::lower_alnum(&*world.entropy, 10));
        let mut instance = InstanceRecord {
            name: name.clone(),
            runtime,
            major,
            listen: world.listen_address(),
            port: 0,
            db: volume.as_ref().map_or_else(|| generated("pg_"), |volume| volume.db.clone()),
            user: volume.as_ref().map_or_else(|| generated("u_"), |volume| volume.user.clone()),
            password: world.new_password(&id)?,
            next_password: None,
            admin_password: if acts.volumes_keep_their_name() { Some(world.new_admin_password(&id)?) } else { None },
            container: None,
            volume: acts.volume_name(&name),
            system_identifier: match &volume {
                Some(volume) => volume.system_identifier,
                None if of_the_original => UNLABELLED,
                None => self.system_identifier(),
            },
            size_gb: request.size_gb,
            settings: RequestedSettings { max_connections: request.max_connections, memory_mb: request.memory_mb },
            tls: request.tls,
            superuser: request.superuser,
            protected: request.protected,
            desired: DesiredState::Running,
            state: InstanceState::Creating,
            reason: None,
            disk_bytes: None,
            created_at: world.clock.now(),
            id: id.clone(),
        };
        let range = world.config.port_range;
        let wanted_volume = request.from_volume.clone();
        let input = DeployInput { id, from_volume: request.from_volume, of_the_original };
        let prepare = move |connection: &Connection| {
            // The name first: of many at once, all but one should learn that, whatever else is wrong.
            if record::by_name(connection, &instance.name)?.is_some() {
                return Err(record::name_taken(&instance.name));
            }
            if let Some(volume) = &wanted_volume {
                match of_the_original {
                    true => record::check_strange_volume_free(connection, volume)?,
                    false => record::check_volume_free(connection, volume)?,
                }
            }
            if acts.volumes_keep_their_name() {
                instance.volume = match &wanted_volume {
                    Some(volume) => volume.clone(),
                    None => checks::free_volume(&instance.volume, connection)?,
                };
            }
            instance.port = checks::free_port(range, instance.listen, &record::ports(connection)?)?;
            record::insert(connection, &instance)
        };
        let started = self.start(DEPLOY, &name, &input, prepare).await?;
        Ok((started, name))
    }

    fn system_identifier(&self) -> u64 {
        let mut bytes = [0; 8];
        self.world.entropy.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// Kept data: what a row of ours tells of it, or nothing where the original daemon has kept it on this runtime.
    async fn kept(&self, volume: &str, runtime: RuntimeKind) -> Result<Option<record::VolumeRecord>, Problem> {
        let wanted = volume.to_owned();
        let found = self.world.store.read(move |connection| record::volume(connection, &wanted)).await?;
        if found.is_some() {
            return Ok(found);
        }
        let looked = self.world.runtime(runtime)?.kept_by_the_original(volume).await;
        if looked.map_err(|error| runtime_problem(&error))? {
            return Ok(None);
        }
        let shown: String = volume.chars().take(80).collect();
        Err(Problem::conflict("volume_not_found", format!("no data is kept under the volume name '{shown}'")))
    }

    /// The major to deploy: the kept data's, the asked one, or the runtime's own choice.
    async fn major(&self, request: &DeployRequest, runtime: &dyn Runtime, kept: Option<u16>) -> Result<u16, Problem> {
        if let (Some(kept), Some(asked)) = (kept, request.version)
            && kept != asked
        {
            let message = format!("the kept data is of PostgreSQL {kept}; leave the version out, or give {kept}");
            return Err(Problem::invalid("invalid_value", message));
        }
        runtime.choose_major(kept.or(request.version)).await.map_err(|error| runtime_problem(&error))
    }

    /// Begins a destroy.
    pub async fn start_destroy(&self, name: &str, keep_data: bool) -> Result<Started, Problem> {
        let instance = self.world.by_name(name).await?;
        let input = DestroyInput { id: instance.id, keep_data };
        let wanted = name.to_owned();
        let prepare = move |connection: &Connection| {
            let instance = record::by_name(connection, &wanted)?.ok_or_else(|| not_found(&wanted))?;
            if instance.protected {
                let message = format!("'{wanted}' is protected; run `pgdb unprotect {wanted}` first");
                return Err(Problem::locked("protected", message));
            }
            let protected = previews::protected_on(connection, &instance.id)?;
            if !protected.is_empty() {
                let message = format!(
                    "previews on '{wanted}' are protected: {}; run `pgdb preview unprotect NUMBER` for each first",
                    protected.join(", ")
                );
                return Err(Problem::locked("protected", message));
            }
            let locked = definitions::locked_on(connection, &instance.id)?;
            if !locked.is_empty() {
                let message = format!(
                    "templates on '{wanted}' are locked: {}; run `pgdb template unlock NAME` for each first",
                    locked.join(", ")
                );
                return Err(Problem::locked("protected", message));
            }
            record::set_desired(connection, &instance.id, DesiredState::Stopped)?;
            record::set_state(connection, &instance.id, InstanceState::Destroying, None)
        };
        self.start(DESTROY, name, &input, prepare).await
    }

    /// Begins a start, stop or restart.
    pub async fn start_power(&self, name: &str, power: Power) -> Result<Started, Problem> {
        let instance = self.world.by_name(name).await?;
        let (kind, desired) = match power {
            Power::Start => (START, DesiredState::Running),
            Power::Stop => (STOP, DesiredState::Stopped),
            Power::Restart => (RESTART, DesiredState::Running),
        };
        let id = instance.id.clone();
        let prepare = move |connection: &Connection| record::set_desired(connection, &id, desired);
        self.start(kind, name, &OnInstance { id: instance.id }, prepare).await
    }

    /// Begins a change of the role's password.
    pub async fn start_rotate_password(&self, name: &str) -> Result<Started, Problem> {
        let instance = self.running(name).await?;
        let next = self.world.new_password(&instance.id)?;
        let id = instance.id.clone();
        let prepare = move |connection: &Connection| record::set_next_password(connection, &id, &next);
        self.start(ROTATE_PASSWORD, name, &OnInstance { id: instance.id }, prepare).await
    }

    /// Begins a restore from an uploaded dump, which the operation removes.
    pub async fn start_restore(&self, name: &str, spool: PathBuf) -> Result<Started, Problem> {
        let instance = self.running(name).await?;
        self.start(RESTORE, name, &RestoreInput { id: instance.id, spool }, |_: &Connection| Ok(())).await
    }

    /// Removes uploads that died with an earlier daemon before an operation took them over.
    pub async fn sweep_spool(&self, folder: &Path) -> Result<(), Problem> {
        let inputs = self.engine.unfinished_inputs().await?;
        let taken: Vec<&str> = inputs.iter().filter_map(|input| input["spool"].as_str()).collect();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if taken.iter().any(|taken| Path::new(taken) == path) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed an upload that was never finished"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "an upload could not be removed"),
            }
        }
        Ok(())
    }

    async fn start<F>(
        &self,
        kind: &'static str,
        name: &str,
        input: &impl Serialize,
        prepare: F,
    ) -> Result<Started, Problem>
    where
        F: FnOnce(&Connection) -> Result<(), Problem> + Send + 'static,
    {
        let input: Value = serde_json::to_value(input).map_err(|error| Problem::internal(error.to_string()))?;
        self.engine.start(NewOperation { kind, subject: record::subject(name), input }, prepare).await
    }

    /// Locks an instance against a destroy, or unlocks it.
    pub async fn set_protected(&self, name: &str, protected: bool) -> Result<(), Problem> {
        let wanted = name.to_owned();
        let change = move |connection: &Connection| {
            let instance = record::by_name(connection, &wanted)?.ok_or_else(|| not_found(&wanted))?;
            record::set_protected(connection, &instance.id, protected)
        };
        self.world.store.write(change).await
    }

    /// An instance with its password, for the answers that hand it out.
    pub async fn deployment(&self, name: &str, host: &str) -> Result<Deployment, Problem> {
        let instance = self.world.by_name(name).await?;
        let password = self.world.password(&instance)?;
        Ok(Deployment {
            host: self.host(host),
            port: instance.port,
            database_url: self.url(&instance, host, Some(&password)),
            password: password.expose_secret().to_owned(),
            db: instance.db,
            user: instance.user,
            created_at: instance.created_at,
            postgres_version: instance.major,
            name: instance.name,
        })
    }

    /// One instance as it stands.
    pub async fn item(&self, name: &str, view: &View) -> Result<StatusItem, Problem> {
        let instance = self.world.by_name(name).await?;
        let id = instance.id.clone();
        let holds = self.world.store.read(move |connection| templates::held(connection, &id)).await?;
        Ok(StatusItem { holds, ..self.to_item(&instance, view)? })
    }

    /// The body of `GET /v1/status`; rendered once for each revision of the state.
    pub async fn status(&self, view: View) -> Result<Bytes, Problem> {
        self.rendered.status(self, view).await
    }

    pub(super) fn to_item(&self, instance: &InstanceRecord, view: &View) -> Result<StatusItem, Problem> {
        let password = if view.reveal { Some(self.world.password(instance)?) } else { None };
        Ok(StatusItem {
            name: instance.name.clone(),
            container_id: instance.container.clone().unwrap_or_else(|| instance.id.clone()),
            volume_name: instance.volume.clone(),
            host: self.host(&view.host),
            host_port: instance.port,
            db: instance.db.clone(),
            user: instance.user.clone(),
            database_url: self.url(instance, &view.host, password.as_ref()),
            password: password.map(|password| password.expose_secret().to_owned()).unwrap_or_default(),
            created_at: instance.created_at,
            postgres_version: instance.major,
            size_gb: instance.size_gb,
            state: instance.state.as_str().to_owned(),
            reason: instance.reason.clone(),
            runtime: instance.runtime.as_str().to_owned(),
            protected: instance.protected,
            tls: instance.tls,
            over_quota: instance.over_quota(),
            disk_bytes: instance.disk_bytes,
            holds: None,
        })
    }

    fn host(&self, requested: &str) -> String {
        self.world.config.public_host.clone().unwrap_or_else(|| requested.to_owned())
    }

    fn url(&self, instance: &InstanceRecord, host: &str, password: Option<&SecretString>) -> String {
        let host = self.host(host);
        let (user, db) = (&instance.user, &instance.db);
        let sslmode = if instance.tls { "require" } else { "disable" };
        ConnectionUrl { user, password, host: &host, port: instance.port, db, sslmode }.to_text()
    }

    /// The log of an instance's server.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<ByteStream, Problem> {
        let instance = self.world.by_name(name).await?;
        let spec = self.world.spec(&instance)?;
        let logs = self.world.runtime(instance.runtime)?.logs(&spec, options).await;
        logs.map_err(|error| runtime_problem(&error))
    }

    /// A dump of an instance's database in `pg_dump`'s custom format, as it is made.
    pub async fn dump(&self, name: &str) -> Result<RunningTool, Problem> {
        let instance = self.running(name).await?;
        let spec = self.world.spec(&instance)?;
        let password = self.world.password(&instance)?;
        let args = ["--format=custom", "--no-password"].map(str::to_owned);
        let tool = Tool {
            program: "pg_dump",
            args: &args,
            user: &instance.user,
            password: Some(&password),
            db: &instance.db,
            stdin: None,
        };
        let running = self.world.runtime(instance.runtime)?.tool(&spec, tool).await;
        running.map_err(|error| runtime_problem(&error))
    }

    /// An instance that is running; else says how to start it.
    async fn running(&self, name: &str) -> Result<InstanceRecord, Problem> {
        let instance = self.world.by_name(name).await?;
        if instance.state == InstanceState::Running {
            return Ok(instance);
        }
        let why = instance.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let message = format!("'{name}' is {}{why}; it has to be running: `pgdb start {name}`", instance.state);
        Err(Problem::conflict("not_running", message))
    }
}
