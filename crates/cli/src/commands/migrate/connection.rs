//! Which database.

use super::Context;
use crate::client::{Client, segment};
use crate::commands::runs;
use crate::error::Usage;
use crate::settings::Server;
use anyhow::Context as _;
use clap::Args;
use pgdb_api::instances::StatusItem;
use pgdb_core::name::InstanceName;
use pgdb_core::preview::PrNumber;
use pgdb_pg::migrate::session::Login;
use pgdb_pg::url;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const URL: &str = "DATABASE_URL";
const FILE: &str = "DATABASE_URL_FILE";

/// The URL of a database, or a file that holds it. What is typed goes before what stands in the environment, so the
/// variables are not clap's to read: it would take one for a flag.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct UrlArgs {
    /// Its URL. One with a password is better given in the environment or in a file [env: DATABASE_URL].
    #[arg(long, value_name = "URL", conflicts_with = "database_url_file")]
    database_url: Option<String>,
    /// A file that holds the URL [env: DATABASE_URL_FILE].
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    #[command(flatten)]
    url: UrlArgs,
    /// A database of the daemon, by its name.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["database_url", "database_url_file"])]
    on: Option<String>,
}

impl UrlArgs {
    /// The URL that was typed, else that of the environment. An empty variable counts as none; two that differ are
    /// refused, for one of them would be the wrong database.
    pub(crate) fn url(&self) -> anyhow::Result<Option<String>> {
        self.choose(|name| std::env::var_os(name))
    }

    fn choose(&self, variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Option<String>> {
        if let Some(url) = &self.database_url {
            return Ok(Some(url.clone()));
        }
        if let Some(file) = &self.database_url_file {
            return read(file).map(Some);
        }
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let url =
            set(URL).map(|url| url.into_string().map_err(|_| Usage(format!("{URL} is not UTF-8")))).transpose()?;
        let file = set(FILE).map(|file| read(Path::new(&file))).transpose()?;
        match (url, file) {
            (Some(url), Some(other)) if url != other => Err(Usage(format!(
                "{URL} and the file of {FILE} name different databases or logins; unset one of them, or use --database-url-file"
            ))
            .into()),
            (url, file) => Ok(url.or(file)),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let url = text.trim();
    anyhow::ensure!(!url.is_empty(), "{} is empty; it has to hold the database's URL", file.display());
    Ok(url.to_owned())
}

impl ConnectionArgs {
    /// Where to log in.
    pub(crate) async fn login(&self, cx: &Context<'_>) -> anyhow::Result<Login> {
        let url = match &self.on {
            Some(name) => Some(instance(cx, name).await?),
            None => self.url.url()?,
        };
        let Some(url) = url else {
            let which = "which database? Set DATABASE_URL, or use --database-url, --database-url-file or --on NAME";
            return Err(Usage(which.to_owned()).into());
        };
        let parsed = url::parse(&url).map_err(|error| Usage(error.to_string()))?;
        Ok(parsed.into())
    }
}

/// The URL of a database of the daemon.
async fn instance(cx: &Context<'_>, name: &str) -> anyhow::Result<String> {
    let name = InstanceName::parse(name).map_err(|error| Usage(format!("{error}{}", of_preview(name))))?;
    let client = Client::new(Server::resolve(cx.global)?, cx.global.wait_timeout)?;
    let item: StatusItem = client.get(&format!("/v1/db/{}", segment(name.as_str()))).await?;
    anyhow::ensure!(!item.password.is_empty(), "this token may not see passwords; it lacks the scope instances:reveal");
    runs(&item)?;
    Ok(item.database_url)
}

/// What to do with the database of a preview, which no instance is called like.
fn of_preview(name: &str) -> String {
    match name.rsplit_once('_').map(|(_, number)| number.parse::<PrNumber>()) {
        Some(Ok(number)) => format!(
            ". If it is a preview: `pgdb migrate rollout --preview {number}` runs files in it, and \
             `pgdb preview url {number} --reveal` has the URL for the rest"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_goes_before_what_stands_in_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://file\n").expect("written");
        let path = file.clone().into_os_string();
        let both = |url: &'static str| {
            let path = path.clone();
            move |name: &str| Some(if name == FILE { path.clone() } else { OsString::from(url) })
        };
        let args = |url: Option<&str>, file: Option<&PathBuf>| UrlArgs {
            database_url: url.map(str::to_owned),
            database_url_file: file.cloned(),
        };
        let chosen = |args: UrlArgs, url| args.choose(both(url)).map(|url| url.expect("a URL"));
        assert_eq!(chosen(args(Some("typed"), None), "other").expect("typed"), "typed");
        assert_eq!(chosen(args(None, Some(&file)), "other").expect("typed"), "postgres://file");
        assert_eq!(chosen(args(None, None), "").expect("an empty one is none"), "postgres://file");
        assert_eq!(chosen(args(None, None), "postgres://file").expect("the same"), "postgres://file");
        let refused = chosen(args(None, None), "postgres://secret@else").expect_err("they differ").to_string();
        assert!(refused.contains("DATABASE_URL and") && refused.contains("DATABASE_URL_FILE"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
        assert_eq!(args(None, None).choose(|_| None).expect("nothing"), None);
    }
}
