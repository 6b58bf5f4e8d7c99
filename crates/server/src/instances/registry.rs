//! The registry file of the original daemon: written on request, and taken over.

use super::record::{self, InstanceRecord};
use super::service::{InstanceService, View};
use super::world::runtime_problem;
use crate::problem::Problem;
use pgdb_api::admin::{ImportReport, Skipped};
use pgdb_core::id::InstanceId;
use pgdb_core::instance::{DesiredState, InstanceState, RequestedSettings, RuntimeKind};
use pgdb_core::name::InstanceName;
use pgdb_core::registry::{Registry, RegistryItem};
use pgdb_runtime::spec::{Adoptable, Observed, UNLABELLED};
use secrecy::{ExposeSecret, SecretString};

/// What an item of a registry is taken over as.
struct Imported {
    id: InstanceId,
    runtime: RuntimeKind,
    /// Its container, if it has one.
    adoptable: Option<Adoptable>,
}

/// What came of taking over a registry.
#[derive(Debug)]
pub struct Import {
    /// What was taken over and what was not.
    pub report: ImportReport,
    /// Whether something was not because the container engine could not be asked: it may be there later.
    pub engine_away: bool,
}

impl Imported {
    fn process(id: InstanceId) -> Self {
        Self { id, runtime: RuntimeKind::Process, adoptable: None }
    }
}

impl InstanceService {
    /// Everything in the documented format of `registry.json`, passwords in clear as the format has them.
    pub async fn export_registry(&self, view: &View) -> Result<Registry, Problem> {
        let instances = self.world.store.read(record::all).await?;
        let items = instances.iter().map(|instance| {
            let item = self.to_item(instance, view)?;
            Ok(RegistryItem {
                name: item.name,
                container_id: item.container_id,
                volume_name: item.volume_name,
                host: item.host,
                host_port: item.host_port,
                db: item.db,
                user: item.user,
                password: self.world.password(instance)?.expose_secret().to_owned(),
                created_at: item.created_at,
                postgres_version: item.postgres_version,
                size_gb: item.size_gb,
            })
        });
        Ok(Registry { items: items.collect::<Result<_, Problem>>()? })
    }

    /// Takes over the items whose servers this machine still holds. Nothing is started anew or changed: a running
    /// server is adopted as it runs. Items that are known already are left alone.
    pub async fn import_registry(&self, registry: Registry) -> Result<Import, Problem> {
        let mut report = ImportReport { imported: Vec::new(), skipped: Vec::new() };
        let mut engine_away = false;
        for item in registry.items {
            let name = item.name.chars().take(80).collect();
            match self.import(item).await {
                Ok(()) => report.imported.push(name),
                Err(problem) => {
                    engine_away |= problem.code == "docker_unavailable";
                    report.skipped.push(Skipped { name, reason: problem.message });
                }
            }
        }
        Ok(Import { report, engine_away })
    }

    async fn import(&self, item: RegistryItem) -> Result<(), Problem> {
        let name =
            InstanceName::parse(&item.name).map_err(|error| Problem::invalid("invalid_name", error.to_string()))?;
        let world = &self.world;
        let imported = match InstanceId::parse(&item.container_id) {
            Some(id) => Imported::process(id),
            None => self.contained(&item.container_id, name.as_str()).await?,
        };
        let Imported { id, runtime, adoptable } = imported;
        if let Some(found) = adoptable.as_ref().filter(|found| !found.volumes.contains(&item.volume_name)) {
            let volumes = found.volumes.join(", ");
            let message = format!("the container of '{name}' has the volume {volumes}, and not {}", item.volume_name);
            return Err(Problem::conflict("not_ours", message));
        }
        let password = SecretString::from(item.password);
        let ours = adoptable.as_ref().and_then(|found| found.system_identifier);
        let instance = InstanceRecord {
            id: id.to_string(),
            name: name.to_string(),
            runtime,
            major: item.postgres_version,
            listen: adoptable.as_ref().and_then(|found| found.listen).unwrap_or_else(|| world.listen_address()),
            port: item.host_port,
            db: item.db,
            user: item.user,
            password: world.sealer.seal(&*world.entropy, &record::password_aad(id.as_str()), &password)?,
            next_password: None,
            // The original's role is a superuser, and so its own administrator.
            admin_password: ours.map(|_| world.new_admin_password(id.as_str())).transpose()?,
            container: adoptable.as_ref().map(|found| found.container.clone()),
            volume: item.volume_name,
            system_identifier: ours.unwrap_or(UNLABELLED),
            size_gb: item.size_gb,
            settings: RequestedSettings {
                max_connections: adoptable.as_ref().and_then(|found| found.max_connections),
                memory_mb: adoptable.as_ref().and_then(|found| found.memory_mb),
            },
            tls: adoptable.as_ref().is_some_and(|found| found.tls),
            superuser: adoptable.is_some() && ours.is_none(),
            protected: false,
            desired: DesiredState::Running,
            // As one that is being made has: its administrator gets the password that we have drawn.
            state: InstanceState::Creating,
            reason: None,
            disk_bytes: None,
            created_at: item.created_at,
        };
        let acts = world.runtime(runtime)?;
        let spec = world.spec(&instance)?;
        match acts.observe(&spec).await.map_err(|error| runtime_problem(&error))? {
            Observed::Missing => {
                let message = format!("this machine holds no data of '{name}' ({id})");
                return Err(Problem::not_found("database_not_found", message));
            }
            Observed::Running { .. } if ours.is_some() => {
                acts.admit_admin(&spec).await.map_err(|error| runtime_problem(&error))?;
            }
            // Its password can be set from inside of a running container alone.
            _ if ours.is_some() => {
                let message = format!("the container of '{name}' does not run; start it first");
                return Err(Problem::conflict("not_running", message));
            }
            _ => {}
        }
        let instance = InstanceRecord { state: InstanceState::Stopped, ..instance };
        world.store.write(move |connection| record::insert(connection, &instance)).await
    }

    /// An item that is known by its container.
    async fn contained(&self, container: &str, name: &str) -> Result<Imported, Problem> {
        let world = &self.world;
        let runtime = world.runtime(RuntimeKind::Docker)?;
        let found = runtime.adoptable(container, name).await.map_err(|error| runtime_problem(&error))?;
        let missing = || {
            let message = format!("the container engine has no container pgdb-{name} with the id of the registry");
            Problem::not_found("database_not_found", message)
        };
        let found = found.ok_or_else(missing)?;
        let id = found.id.as_deref().and_then(InstanceId::parse);
        Ok(Imported {
            id: id.unwrap_or_else(|| InstanceId::generate(&*world.clock, &*world.entropy)),
            runtime: RuntimeKind::Docker,
            adoptable: Some(found),
        })
    }
}
