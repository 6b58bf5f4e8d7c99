//! `pgdb template refresh NAME`.

use super::{Which, told};
use crate::commands::{Context, NOTHING};
use anyhow::Context as _;
use clap::Args;
use pgdb_api::templates::{Template, TemplateDefinition};
use reqwest::Method;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Make a template anew from its source, or from a dump. The present one stays until the new one is whole.
#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    source: Source,
}

/// Where a template comes from, and what becomes of it on the way.
#[derive(Debug, Args)]
pub(crate) struct Source {
    #[command(flatten)]
    definition: Definition,
    /// A dump in pg_dump's custom format to read instead.
    #[arg(long, value_name = "FILE", conflicts_with = "source_url_file")]
    dump: Option<PathBuf>,
}

/// How a template is made.
#[derive(Debug, Args)]
pub(crate) struct Definition {
    /// File with the URL of the database to read; - for standard input (also: PGDB_SOURCE_URL).
    #[arg(long, value_name = "FILE")]
    source_url_file: Option<PathBuf>,
    /// Forget the URL of the database to read.
    #[arg(long, conflicts_with = "source_url_file")]
    no_source: bool,
    /// File with the URL of a superuser, for extensions that only one may install (also: PGDB_ADMIN_URL).
    #[arg(long, value_name = "FILE")]
    admin_url_file: Option<PathBuf>,
    /// Forget the URL of the superuser.
    #[arg(long, conflicts_with = "admin_url_file")]
    no_admin: bool,
    /// Tables whose rows are left out, as a pattern of pg_dump; can be given more than once.
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
    /// Leave out no rows any more.
    #[arg(long, conflicts_with = "exclude_table_data")]
    no_excludes: bool,
    /// SQL file that changes what nobody may see.
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Mask nothing any more.
    #[arg(long, conflicts_with = "mask")]
    no_mask: bool,
    /// Query that has to give true, or a number that is not 0; can be given more than once.
    #[arg(long = "check", value_name = "SQL")]
    checks: Vec<String>,
    /// Check nothing any more.
    #[arg(long, conflicts_with = "checks")]
    no_checks: bool,
    /// How many tables are dumped and read at the same time.
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
}

impl Refresh {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = refresh(cx, &self.which, self.source).await?;
        told(cx, &item)
    }
}

impl Definition {
    /// What is said to the daemon: nothing of what stays, and something empty for what is taken away.
    pub(super) fn wire(self) -> anyhow::Result<TemplateDefinition> {
        let list = |list: Vec<String>, none: bool| (none || !list.is_empty()).then_some(list);
        let text = |text: Option<String>, none: bool| if none { Some(String::new()) } else { text };
        let source_url = if self.no_source { None } else { url(self.source_url_file.as_deref(), "PGDB_SOURCE_URL")? };
        let admin_url = if self.no_admin { None } else { url(self.admin_url_file.as_deref(), "PGDB_ADMIN_URL")? };
        Ok(TemplateDefinition {
            source_url: text(source_url, self.no_source),
            admin_url: text(admin_url, self.no_admin),
            exclude_table_data: list(self.exclude_table_data, self.no_excludes),
            mask: text(self.mask.as_deref().map(read).transpose()?, self.no_mask),
            checks: list(self.checks, self.no_checks),
            jobs: self.jobs,
        })
    }
}

/// Says what was given, then makes the template.
pub(super) async fn refresh(cx: &Context<'_>, which: &Which, source: Source) -> anyhow::Result<Template> {
    let _: Template = cx.client.put(&which.path(""), &source.definition.wire()?).await?;
    let Some(dump) = source.dump else {
        return cx.perform(Method::POST, &which.path("/refresh"), NOTHING, async |_| which.item(cx).await).await;
    };
    let file = tokio::fs::File::open(&dump).await.with_context(|| format!("could not read {}", dump.display()))?;
    let stream = tokio_util::io::ReaderStream::new(file);
    cx.client.post_stream(&which.path("/refresh/dump"), reqwest::Body::wrap_stream(stream)).await
}

/// A URL from a file or the environment; never from an argument, which everybody on the machine can read.
pub(in crate::commands) fn url(file: Option<&Path>, variable: &str) -> anyhow::Result<Option<String>> {
    let text = match file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("could not read standard input")?;
            text
        }
        Some(path) => read(path)?,
        None => match std::env::var(variable) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(text.trim().to_owned()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
