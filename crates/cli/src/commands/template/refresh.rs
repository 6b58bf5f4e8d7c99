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
    /// File with the URL of the database to read; - for standard input (also: PGDB_SOURCE_URL).
    #[arg(long, value_name = "FILE", conflicts_with = "dump")]
    source_url_file: Option<PathBuf>,
    /// A dump in pg_dump's custom format to read instead.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// File with the URL of a superuser, for extensions that only one may install (also: PGDB_ADMIN_URL).
    #[arg(long, value_name = "FILE")]
    admin_url_file: Option<PathBuf>,
    /// Tables whose rows are left out, as a pattern of pg_dump; can be given more than once.
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
    /// SQL file that changes what nobody may see.
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Query that has to give true, or a number that is not 0; can be given more than once.
    #[arg(long = "check", value_name = "SQL")]
    checks: Vec<String>,
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

/// Says what was given, then makes the template.
pub(super) async fn refresh(cx: &Context<'_>, which: &Which, source: Source) -> anyhow::Result<Template> {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let definition = TemplateDefinition {
        source_url: url(source.source_url_file.as_deref(), "PGDB_SOURCE_URL")?,
        admin_url: url(source.admin_url_file.as_deref(), "PGDB_ADMIN_URL")?,
        exclude_table_data: some(source.exclude_table_data),
        mask: source.mask.as_deref().map(read).transpose()?,
        checks: some(source.checks),
        jobs: source.jobs,
    };
    let _: Template = cx.client.put(&which.path(""), &definition).await?;
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
