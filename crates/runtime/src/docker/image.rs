//! Images: which one a major needs, what it says about itself, and getting it.

use crate::docker::engine::{Engine, if_there};
use crate::docker::{DockerConfig, registry};
use crate::error::RuntimeError;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::TryStreamExt;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where images keep data unless they say otherwise.
const DEFAULT_DATA: &str = "/var/lib/postgresql/data";
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(9 * 60);
/// What stands for the major in the name of an image.
const MAJOR: &str = "{major}";

/// When images are pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have them.
    #[default]
    Missing,
    /// Before every deploy.
    Always,
    /// Never.
    Never,
}

impl FromStr for PullPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("'{text}' is no pull policy: write missing, always or never")),
        }
    }
}

/// The name of an image with a place for the major, such as `registry.example.org/postgres:{major}-bookworm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName(String);

impl Default for ImageName {
    fn default() -> Self {
        Self(format!("postgres:{MAJOR}"))
    }
}

impl FromStr for ImageName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@{}".contains(&byte);
        if !text.contains(MAJOR) || !text.bytes().all(sane) {
            return Err(format!("'{text}' is no name of an image with {MAJOR} in it, such as postgres:{MAJOR}-alpine"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl ImageName {
    /// The image of one major, always with a tag: without one an engine would pull all there are.
    pub(crate) fn of(&self, major: u16) -> String {
        let name = self.0.replace(MAJOR, &major.to_string());
        let last = name.rsplit('/').next().unwrap_or(&name);
        if last.contains([':', '@']) { name } else { format!("{name}:latest") }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What we need to know of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What it was asked for by.
    pub(crate) name: String,
    /// The engine's id of it.
    pub(crate) id: String,
    /// What it runs before the command.
    pub(crate) entrypoint: Vec<String>,
    /// PostgreSQL's data directory.
    pub(crate) data: String,
    /// Where the volume goes: the data directory, or from 18 on the folder above it.
    pub(crate) mount: String,
    /// Whether its entrypoint begins as root.
    pub(crate) as_root: bool,
    /// The full version, when it tells.
    pub(crate) version: Option<String>,
}

impl Image {
    /// Reads it from what the engine tells.
    fn read(name: &str, seen: ImageInspect) -> Self {
        let config = seen.config.unwrap_or_default();
        let env = config.env.unwrap_or_default();
        let variable = |name: &str| {
            let found = env.iter().filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
        };
        let data = variable("PGDATA").unwrap_or_else(|| DEFAULT_DATA.to_owned());
        let declared = config.volumes.unwrap_or_default();
        let above = |volume: &&String| std::path::Path::new(&data).starts_with(volume);
        let mount = declared.iter().filter(above).max_by_key(|volume| volume.len()).cloned();
        Self {
            name: name.to_owned(),
            id: seen.id.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            mount: mount.unwrap_or_else(|| data.clone()),
            as_root: matches!(config.user.as_deref().unwrap_or_default(), "" | "root" | "0" | "0:0" | "root:root"),
            version: variable("PG_VERSION"),
            data,
        }
    }
}

/// The image, if the engine has it.
pub(crate) async fn find(engine: &Engine, name: &str) -> Result<Option<Image>, RuntimeError> {
    let seen = if_there(engine.api().await?.inspect_image(name).await);
    let seen = seen.map_err(engine.failed(format!("look at the image {name}")))?;
    Ok(seen.map(|seen| Image::read(name, seen)))
}

/// The image, pulled if the policy says so. It is looked at first: what is there needs no registry.
pub(crate) async fn ensure(engine: &Engine, name: &str, config: &DockerConfig) -> Result<Image, RuntimeError> {
    let there = find(engine, name).await?;
    match (there, config.pull) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => Ok(image),
        (None, PullPolicy::Never) => {
            let detail = "PGDB_DOCKER_PULL is never, so it was not pulled".to_owned();
            Err(RuntimeError::ImageMissing { image: name.to_owned(), detail })
        }
        (there, _) => match (pull(engine, name, config).await, there) {
            (Ok(image), _) => Ok(image),
            (Err(error @ RuntimeError::ContainersUnavailable { .. }), _) => Err(error),
            (Err(error), Some(image)) => {
                tracing::warn!(image = name, %error, "an image could not be pulled anew; using the one that is there");
                Ok(image)
            }
            (Err(error), None) => Err(error),
        },
    }
}

/// Pulls an image from its registry.
async fn pull(engine: &Engine, name: &str, config: &DockerConfig) -> Result<Image, RuntimeError> {
    tracing::info!(image = name, "pulling an image");
    let credentials = registry::credentials(config.client_config.as_deref(), name).await;
    let options = CreateImageOptionsBuilder::default().from_image(name).build();
    let api = engine.api().await?;
    let pulling = api.create_image(Some(options), None, credentials).try_collect::<Vec<_>>();
    let Ok(pulled) = tokio::time::timeout(PULL, pulling).await else {
        let detail = format!("it was not pulled within {} minutes", PULL.as_secs() / 60);
        return Err(RuntimeError::ImageMissing { image: name.to_owned(), detail });
    };
    if let Err(error) = pulled {
        return Err(match engine.failed(format!("pull {name}"))(error) {
            RuntimeError::Containers { message, .. } => RuntimeError::ImageMissing {
                image: name.to_owned(),
                detail: format!("it could not be pulled: {message}"),
            },
            other => other,
        });
    }
    let missing = || RuntimeError::ImageMissing { image: name.to_owned(), detail: "it could not be pulled".to_owned() };
    find(engine, name).await?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ImageConfig;

    #[test]
    fn names_hold_the_major_and_nothing_odd() {
        let of = |name: &str| name.parse::<ImageName>().map(|name| name.of(17));
        assert_eq!(ImageName::default().of(16), "postgres:16");
        assert_eq!(of("reg.example.org:5000/pg{major}").as_deref(), Ok("reg.example.org:5000/pg17:latest"));
        assert_eq!(of("x/postgis:{major}-3.5").as_deref(), Ok("x/postgis:17-3.5"));
        for bad in ["postgres", "postgres:{major} --privileged", "", "postgres:{major}?x=1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_volume_goes_where_the_image_says() {
        let image = |env: &[&str], volumes: &[&str]| {
            let text = |list: &[&str]| Some(list.iter().map(|item| (*item).to_owned()).collect());
            let config = ImageConfig { env: text(env), volumes: text(volumes), ..ImageConfig::default() };
            let image = Image::read("x", ImageInspect { config: Some(config), ..ImageInspect::default() });
            (image.data, image.mount)
        };
        let both = |data: &str, mount: &str| (data.to_owned(), mount.to_owned());
        let old = "/var/lib/postgresql/data";
        assert_eq!(image(&["PGDATA=/var/lib/postgresql/data"], &[old]), both(old, old));
        let new = "/var/lib/postgresql/18/docker";
        assert_eq!(
            image(&["PG_VERSION=18.1", "PGDATA=/var/lib/postgresql/18/docker"], &["/var/lib/postgresql"]),
            both(new, "/var/lib/postgresql")
        );
        assert_eq!(image(&[], &[]), both(old, old));
    }
}
