//! Volumes: where data is, under one name from its deploy to its end.

use crate::docker::DockerConfig;
use crate::docker::engine::{Engine, if_there, status, unless_done};
use crate::docker::plan::{self, LABEL_ID, LABEL_MAJOR};
use crate::error::RuntimeError;
use crate::spec::ServerSpec;
use bollard::models::Volume;
use bollard::query_parameters::RemoveVolumeOptions;

/// The volume of this name.
pub(crate) async fn find(engine: &Engine, name: &str) -> Result<Option<Volume>, RuntimeError> {
    let seen = if_there(engine.api().await?.inspect_volume(name).await);
    seen.map_err(engine.failed(format!("look at the volume {name}")))
}

/// Makes the volume of new data. One of its name that is not this server's is never touched.
pub(crate) async fn ensure(engine: &Engine, spec: &ServerSpec, config: &DockerConfig) -> Result<(), RuntimeError> {
    if let Some(volume) = find(engine, &spec.volume).await? {
        if volume.labels.get(LABEL_ID) == Some(&spec.id) {
            return Ok(());
        }
        let detail = format!(
            "somebody's data is in it; deploy under another name, or remove it with `docker volume rm {}`",
            spec.volume
        );
        return Err(RuntimeError::InTheWay { what: format!("the volume {}", spec.volume), detail });
    }
    let api = engine.api().await?;
    if spec.size_gb.is_some() {
        match api.create_volume(plan::volume(spec, config, spec.size_gb)).await {
            Ok(_) => return Ok(()),
            // Most drivers and file systems cannot: then the size is watched.
            Err(error) if status(&error).is_some() => {
                tracing::info!(volume = spec.volume, %error, "the volume's driver cannot hold it to a size; it is watched instead");
            }
            Err(error) => return Err(engine.failed(format!("create the volume {}", spec.volume))(error)),
        }
    }
    let made = api.create_volume(plan::volume(spec, config, None)).await;
    made.map(drop).map_err(engine.failed(format!("create the volume {}", spec.volume)))
}

/// Removes a volume unless it is gone.
pub(crate) async fn remove(engine: &Engine, name: &str) -> Result<(), RuntimeError> {
    let removed = engine.api().await?.remove_volume(name, None::<RemoveVolumeOptions>).await;
    unless_done(removed).map_err(engine.failed(format!("remove the volume {name}")))
}

/// The major that a volume's label tells.
pub(crate) fn major(volume: &Volume) -> Option<u16> {
    volume.labels.get(LABEL_MAJOR)?.parse().ok()
}
