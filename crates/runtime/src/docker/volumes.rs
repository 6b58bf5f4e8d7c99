//! Volumes: where data is, under one name from its deploy to its end.

use crate::docker::DockerConfig;
use crate::docker::engine::{Engine, if_there, status, unless_done};
use crate::docker::plan::{self, LABEL_MAJOR};
use crate::error::RuntimeError;
use crate::spec::ServerSpec;
use bollard::models::Volume;
use bollard::query_parameters::RemoveVolumeOptions;

/// What the local driver of Docker calls the size of a volume.
const DOCKERS_SIZE: &str = "size";

/// The volume with the server's data.
pub(crate) async fn find_own(engine: &Engine, spec: &ServerSpec) -> Result<Option<Volume>, RuntimeError> {
    Ok(find(engine, &spec.volume).await?.filter(|volume| plan::is_data_of(spec, &volume.labels)))
}

/// The volume of this name.
pub(crate) async fn find(engine: &Engine, name: &str) -> Result<Option<Volume>, RuntimeError> {
    let seen = if_there(engine.api().await?.inspect_volume(name).await);
    seen.map_err(engine.failed(format!("look at the volume {name}")))
}

/// Makes the volume of new data. One of its name that is not this server's is never touched.
pub(crate) async fn ensure(engine: &Engine, spec: &ServerSpec, config: &DockerConfig) -> Result<(), RuntimeError> {
    if let Some(volume) = find(engine, &spec.volume).await? {
        if plan::is_data_of(spec, &volume.labels) {
            return Ok(());
        }
        let detail = format!(
            "somebody's data is in it; deploy under another name, or remove it with `docker volume rm {}`",
            spec.volume
        );
        return Err(RuntimeError::InTheWay { what: format!("the volume {}", spec.volume), detail });
    }
    let api = engine.api().await?;
    let option = match (&config.volume_size_option, spec.size_gb) {
        (_, None) => None,
        (Some(option), Some(_)) => Some(option.as_str()),
        // Podman takes Docker's option for one of `mount`, which then fails.
        (None, Some(_)) => (!engine.is_podman().await?).then_some(DOCKERS_SIZE),
    };
    if let Some(size) = option.zip(spec.size_gb) {
        match api.create_volume(plan::volume(spec, config, Some(size))).await {
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
