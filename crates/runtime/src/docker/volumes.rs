//! Volumes: where data is, under one name from its deploy to its end.

use crate::docker::DockerConfig;
use crate::docker::engine::{Engine, if_there, status, unless_done};
use crate::docker::plan::{self, LABEL_ID, LABEL_MAJOR};
use crate::error::RuntimeError;
use crate::spec::ServerSpec;
use bollard::models::{ContainerSummary, Volume};
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
        return Err(others(spec));
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
            Ok(made) => return check_made(spec, &made),
            // Most drivers and file systems cannot: then the size is watched.
            Err(error) if status(&error).is_some() => {
                tracing::info!(volume = spec.volume, %error, "the volume's driver cannot hold it to a size; it is watched instead");
            }
            Err(error) => return Err(engine.failed(format!("create the volume {}", spec.volume))(error)),
        }
    }
    let made = api.create_volume(plan::volume(spec, config, None)).await;
    check_made(spec, &made.map_err(engine.failed(format!("create the volume {}", spec.volume)))?)
}

/// Engines give out a volume that is there as if they had made it.
fn check_made(spec: &ServerSpec, made: &Volume) -> Result<(), RuntimeError> {
    if plan::is_data_of(spec, &made.labels) { Ok(()) } else { Err(others(spec)) }
}

fn others(spec: &ServerSpec) -> RuntimeError {
    let detail = format!(
        "somebody's data is in it; deploy under another name, or remove it with `docker volume rm {}`",
        spec.volume
    );
    RuntimeError::InTheWay { what: format!("the volume {}", spec.volume), detail }
}

/// Refuses a volume that a container has, running or not, but for that of the server `own`.
pub(crate) async fn refuse_used(engine: &Engine, name: &str, own: Option<&str>) -> Result<(), RuntimeError> {
    let listed = engine.list("volume", name).await?;
    let is_own = |found: &ContainerSummary| {
        own.is_some() && found.labels.as_ref().and_then(|labels| labels.get(LABEL_ID)).map(String::as_str) == own
    };
    // Filters of engines go by parts of names too.
    let has = |found: &ContainerSummary| found.mounts.iter().flatten().any(|mount| mount.name.as_deref() == Some(name));
    let Some(user) = listed.into_iter().find(|found| has(found) && !is_own(found)) else { return Ok(()) };
    let container = user.names.unwrap_or_default().into_iter().next().or(user.id).unwrap_or_default();
    let container = container.trim_start_matches('/');
    let detail = format!("the container {container} has it; stop and remove that first (`docker rm {container}`)");
    Err(RuntimeError::InTheWay { what: format!("the volume {name}"), detail })
}

/// Removes a volume unless it is gone. It is looked at right before: podman takes the beginning of a name for the name
/// where nothing is called so.
pub(crate) async fn remove(engine: &Engine, name: &str) -> Result<(), RuntimeError> {
    if find(engine, name).await?.is_none() {
        return Ok(());
    }
    let removed = engine.api().await?.remove_volume(name, None::<RemoveVolumeOptions>).await;
    unless_done(removed).map_err(engine.failed(format!("remove the volume {name}")))
}

/// The major that a volume's label tells.
pub(crate) fn major(volume: &Volume) -> Option<u16> {
    volume.labels.get(LABEL_MAJOR)?.parse().ok()
}
