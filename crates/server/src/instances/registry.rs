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
use pgdb_runtime::spec::Observed;
use secrecy::{ExposeSecret, SecretString};

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
    pub async fn import_registry(&self, registry: Registry) -> Result<ImportReport, Problem> {
        let mut report = ImportReport { imported: Vec::new(), skipped: Vec::new() };
        for item in registry.items {
            let name = item.name.chars().take(80).collect();
            match self.import(item).await {
                Ok(()) => report.imported.push(name),
                Err(problem) => report.skipped.push(Skipped { name, reason: problem.message }),
            }
        }
        Ok(report)
    }

    async fn import(&self, item: RegistryItem) -> Result<(), Problem> {
        let name =
            InstanceName::parse(&item.name).map_err(|error| Problem::invalid("invalid_name", error.to_string()))?;
        let Some(id) = InstanceId::parse(&item.container_id) else {
            let message = "it runs in a container, and this daemon has no container runtime";
            return Err(Problem::invalid("runtime_unavailable", message));
        };
        let password = SecretString::from(item.password);
        let world = &self.world;
        let instance = InstanceRecord {
            id: id.to_string(),
            name: name.to_string(),
            runtime: RuntimeKind::Process,
            major: item.postgres_version,
            listen: world.listen_address(),
            port: item.host_port,
            db: item.db,
            user: item.user,
            password: world.sealer.seal(&*world.entropy, &record::password_aad(id.as_str()), &password)?,
            next_password: None,
            admin_password: None,
            container: None,
            volume: item.volume_name,
            system_identifier: 0,
            size_gb: item.size_gb,
            settings: RequestedSettings::default(),
            tls: false,
            superuser: false,
            protected: false,
            desired: DesiredState::Running,
            state: InstanceState::Stopped,
            reason: None,
            disk_bytes: None,
            created_at: item.created_at,
        };
        let observed = world.runtime(instance.runtime)?.observe(&world.spec(&instance)?).await;
        if observed.map_err(|error| runtime_problem(&error))? == Observed::Missing {
            let message = format!("this machine holds no data of '{name}' ({id})");
            return Err(Problem::not_found("database_not_found", message));
        }
        world.store.write(move |connection| record::insert(connection, &instance)).await
    }
}
